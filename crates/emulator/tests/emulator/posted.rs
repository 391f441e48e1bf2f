//! Writes that the logic accepts immediately and answers later.

use crate::host::{Bench, Desc, List, chain};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;
use xdma_emulator::logic::{AxiResponse, Burst, Logic, Shell};
use xdma_emulator::{CardFile, EmulatorOptions};

/// Run, and all errors that stop the engine when they are logged.
const CONTROL: u32 = 0x04f8_fe1f;
const BUSY: u32 = 1;
const SLAVE_ERROR: u32 = 1 << 15;

/// Accepts every write, and answers with the queued responses.
#[derive(Default)]
struct DeferredLogic {
    state: Mutex<State>,
    shell: OnceLock<Arc<dyn Shell>>,
}

#[derive(Default)]
struct State {
    /// The number of writes accepted but not answered.
    open: usize,
    queued: VecDeque<AxiResponse>,
    discarded: usize,
}

impl DeferredLogic {
    fn respond(&self, answers: impl IntoIterator<Item = AxiResponse>) {
        self.state.lock().unwrap().queued.extend(answers);
        self.shell.get().unwrap().progress();
    }

    fn wait(&self, what: impl Fn(&State) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !what(&self.state.lock().unwrap()) {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
    }
}

impl Logic for DeferredLogic {
    fn attach(&self, shell: Arc<dyn Shell>) {
        assert!(self.shell.set(shell).is_ok());
    }

    fn write(&self, _: usize, _: u64, _: Burst, _: &VolatileSlice) -> AxiResponse {
        self.state.lock().unwrap().open += 1;
        AxiResponse::Accepted
    }

    fn response(&self, _: usize) -> AxiResponse {
        let mut state = self.state.lock().unwrap();
        let answer = state.queued.pop_front().unwrap_or(AxiResponse::Wait);
        state.open -= (answer != AxiResponse::Wait) as usize;
        answer
    }

    fn discard_responses(&self, _: usize) {
        let mut state = self.state.lock().unwrap();
        state.discarded += state.open;
        state.open = 0;
        state.queued.clear();
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

/// A list of one descriptor with eight bursts.
fn eight() -> List {
    chain(0x1000, &[Desc::h2c(0x8000, 0, 8 * 4096)])
}

fn bench(options: EmulatorOptions) -> (Arc<DeferredLogic>, Bench) {
    let logic = Arc::new(DeferredLogic::default());
    let bench = Bench::with_logic(options, logic.clone());
    (logic, bench)
}

/// Asserts that nothing completes within a short time.
fn unfinished(bench: &mut Bench) {
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!((bench.read(0x40) & BUSY, bench.read(0x48), bench.word(0x100)), (BUSY, 0, 0));
}

#[test]
fn a_descriptor_completes_with_its_last_response() {
    for synchronous in [false, true] {
        let (logic, mut bench) = bench(EmulatorOptions { synchronous, ..EmulatorOptions::default() });
        bench.start(0, &eight(), CONTROL);
        logic.wait(|state| state.open == 8);
        unfinished(&mut bench);
        logic.respond(vec![AxiResponse::Okay(0); 7]);
        logic.wait(|state| state.queued.is_empty());
        unfinished(&mut bench);
        logic.respond([AxiResponse::Okay(0)]);
        bench.wait_register(0x40, BUSY, 0);
        // The write-back follows the status.
        assert_eq!((bench.read(0x48), bench.wait_word(0x100, 1)), (1, 1));
        bench.clean();
    }
}

#[test]
fn an_error_stops_the_engine_and_discards_the_other_responses() {
    let (logic, mut bench) = bench(EmulatorOptions::default());
    bench.start(0, &eight(), CONTROL);
    logic.wait(|state| state.open == 8);
    logic.respond([AxiResponse::Okay(0), AxiResponse::Okay(0), AxiResponse::SlaveError]);
    bench.wait_register(0x40, BUSY | SLAVE_ERROR, SLAVE_ERROR);
    assert_eq!(bench.read(0x48), 0, "no descriptor was completed");
    logic.wait(|state| state.discarded == 5);
    // An error that is not logged counts as done.
    bench.write(0x04, 0);
    bench.read(0x44);
    bench.start(0, &eight(), 1);
    logic.wait(|state| state.open == 8);
    logic.respond([AxiResponse::DecodeError; 8]);
    bench.wait_register(0x40, BUSY, 0);
    assert_eq!(bench.read(0x48), 1);
}

#[test]
fn a_stop_waits_for_responses_but_a_reset_does_not() {
    let (logic, mut bench) = bench(EmulatorOptions::default().with_function_reset(true));
    bench.start(0, &eight(), CONTROL);
    logic.wait(|state| state.open == 8);
    bench.write(0x04, CONTROL & !1);
    unfinished(&mut bench);
    logic.respond(vec![AxiResponse::Okay(0); 8]);
    bench.wait_register(0x40, BUSY, 0);
    assert_eq!(bench.read(0x48), 1);

    bench.start(0, &eight(), CONTROL);
    logic.wait(|state| state.open == 8);
    bench.client.reset().unwrap();
    logic.wait(|state| state.discarded == 8);
    bench.set_bus_master(true);
    // Responses from before the reset must not be used for later writes.
    bench.start(0, &eight(), CONTROL);
    logic.wait(|state| state.open == 8);
    unfinished(&mut bench);
    logic.respond(vec![AxiResponse::Okay(0); 8]);
    bench.wait_register(0x40, BUSY, 0);
}

#[test]
fn the_shell_times_out_unanswered_writes() {
    let options =
        EmulatorOptions { axi_timeout: Some(Duration::from_millis(200)), ..EmulatorOptions::default() };
    let (logic, mut bench) = bench(options);
    bench.start(0, &eight(), CONTROL);
    logic.wait(|state| state.open == 8);
    logic.respond([AxiResponse::Okay(0); 3]);
    bench.wait_register(0x40, BUSY, 0);
    assert_eq!(bench.read(0x48), 1);
    assert_eq!(bench.wait_word(0x100, 1), 1);
    assert_eq!(bench.card.counters().axi_timeouts, 5);
    logic.wait(|state| state.discarded == 5);
}

#[test]
fn a_bar_write_gets_its_response_or_times_out() {
    let (logic, mut bench) = bench(EmulatorOptions { card: CardFile::f1(), ..EmulatorOptions::default() });
    let mut access = || bench.client.region_write(4, 0x1000, &[7; 64]).unwrap();
    access();
    logic.wait(|state| state.discarded == 1);
    logic.respond([AxiResponse::Okay(0)]);
    access();
    logic.wait(|state| state.queued.is_empty() && state.open == 0);
    assert_eq!(logic.state.lock().unwrap().discarded, 1);
}
