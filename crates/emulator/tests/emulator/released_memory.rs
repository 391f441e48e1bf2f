//! Detection of accesses to released memory.

use crate::host::{Bench, Desc, chain};
use std::sync::{Arc, Condvar, Mutex};
use vm_memory::VolatileSlice;
use xdma_emulator::logic::{AxiResponse, Burst, Logic, Shell};
use xdma_emulator::{EmulatedCard, EmulatorOptions, Rule};

const CONTROL: u32 = 0x04f8_3e19;

fn rules(card: &EmulatedCard) -> Vec<(Rule, u64)> {
    card.violations().iter().map(|violation| (violation.rule, violation.address)).collect()
}

#[test]
fn accessing_released_memory_breaks_a_rule() {
    let mut bench = Bench::new(EmulatorOptions::default());
    let list = chain(0x1000, &[Desc::h2c(0x8000, 0, 64), Desc::h2c(0x9000, 64, 64)]);
    let run = |bench: &mut Bench| {
        bench.start(0, &list, CONTROL);
        bench.wait_register(0x40, 1, 0);
    };
    run(&mut bench);
    bench.card.observer().released(0x9020, 64);
    run(&mut bench);
    assert_eq!(rules(&bench.card), [(Rule::ReleasedMemory, 0x9000)]);
    bench.card.observer().allocated(0x9020, 64);
    run(&mut bench);
    bench.card.observer().released(0x1020, 32);
    run(&mut bench);
    let all = rules(&bench.card);
    assert!(all.len() > 1 && all[1..].iter().all(|(rule, _)| *rule == Rule::ReleasedMemory), "{all:x?}");
}

/// A logic that blocks in a write until it is opened, and signals when a write arrives.
#[derive(Default)]
struct BlockingLogic {
    /// Whether a write has arrived, and whether the logic is open.
    state: Mutex<(bool, bool)>,
    change: Condvar,
}

impl BlockingLogic {
    fn await_access(&self) {
        drop(self.change.wait_while(self.state.lock().unwrap(), |state| !state.0).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.change.notify_all();
    }
}

impl Logic for BlockingLogic {
    fn attach(&self, _: Arc<dyn Shell>) {}
    fn write(&self, _: usize, _: u64, _: Burst, data: &VolatileSlice) -> AxiResponse {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.change.notify_all();
        drop(self.change.wait_while(state, |state| !state.1).unwrap());
        AxiResponse::Okay(data.len())
    }
    fn read(&self, _: usize, _: u64, _: Burst, _: &VolatileSlice) -> AxiResponse {
        AxiResponse::DecodeError
    }
    fn user_read(&self, _: usize, _: u64) -> u32 {
        0
    }
    fn user_write(&self, _: usize, _: u64, _: u32) {}
    fn reset(&self) {}
}

#[test]
fn releasing_or_unmapping_memory_during_an_access_breaks_a_rule() {
    let logic = Arc::new(BlockingLogic::default());
    let mut bench = Bench::with_logic(EmulatorOptions::default(), logic.clone());
    bench.map(0x1000_0000, 0x1000, 0x8000);
    bench.start(0, &chain(0x1000, &[Desc::h2c(0x1000_0000, 0, 64)]), CONTROL);
    logic.await_access();
    bench.card.observer().released(0x1000_0000, 4096);
    assert_eq!(rules(&bench.card), [(Rule::ReleasedMemory, 0x1000_0000)]);
    std::thread::scope(|scope| {
        // The unmap waits for the access, which must not end before the violation is recorded.
        let unmapping = scope.spawn(|| bench.client.dma_unmap(0x1000_0000, 0x1000));
        while bench.card.violations().len() < 2 {
            std::thread::yield_now();
        }
        logic.open();
        unmapping.join().unwrap().unwrap();
    });
    assert_eq!(rules(&bench.card)[1], (Rule::UnmappedInFlight, 0x1000_0000));
}
