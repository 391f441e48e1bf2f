//! Writes that the logic takes at once and answers later.

use crate::host::{Bench, Desc, List, chain};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;
use xdma_emulator::logic::{Answer, Burst, Logic, Shell};
use xdma_emulator::{Options, Profile};

/// Run, and all errors that are logged stop the engine.
const CONTROL: u32 = 0x04f8_fe1f;
const BUSY: u32 = 1;
const SLAVE_ERROR: u32 = 1 << 15;

/// Takes every write, and answers as it is told to.
#[derive(Default)]
struct Late {
    state: Mutex<State>,
    shell: OnceLock<Arc<dyn Shell>>,
}

#[derive(Default)]
struct State {
    /// Taken and not answered.
    open: usize,
    given: VecDeque<Answer>,
    forgotten: usize,
}

impl Late {
    fn give(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().given.extend(answers);
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

impl Logic for Late {
    fn attach(&self, shell: Arc<dyn Shell>) {
        assert!(self.shell.set(shell).is_ok());
    }

    fn write(&self, _: usize, _: u64, _: Burst, _: &VolatileSlice) -> Answer {
        self.state.lock().unwrap().open += 1;
        Answer::Accepted
    }

    fn response(&self, _: usize) -> Answer {
        let mut state = self.state.lock().unwrap();
        let answer = state.given.pop_front().unwrap_or(Answer::Wait);
        state.open -= (answer != Answer::Wait) as usize;
        answer
    }

    fn forget(&self, _: usize) {
        let mut state = self.state.lock().unwrap();
        state.forgotten += state.open;
        state.open = 0;
        state.given.clear();
    }

    fn read(&self, _: usize, _: u64, _: Burst, _: &VolatileSlice) -> Answer {
        Answer::DecodeError
    }

    fn user_read(&self, _: usize, _: u64) -> u32 {
        0
    }

    fn user_write(&self, _: usize, _: u64, _: u32) {}

    fn reset(&self) {}
}

/// A list of one descriptor of eight bursts.
fn eight() -> List {
    chain(0x1000, &[Desc::h2c(0x8000, 0, 8 * 4096)])
}

fn bench(options: Options) -> (Arc<Late>, Bench) {
    let late = Arc::new(Late::default());
    let bench = Bench::with_logic(options, late.clone());
    (late, bench)
}

/// Nothing is completed, also after a while.
fn unfinished(bench: &mut Bench) {
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!((bench.read(0x40) & BUSY, bench.read(0x48), bench.word(0x100)), (BUSY, 0, 0));
}

#[test]
fn a_descriptor_is_complete_when_its_last_write_is_answered() {
    for synchronous in [false, true] {
        let (late, mut bench) = bench(Options { synchronous, ..Options::default() });
        bench.start(0, &eight(), CONTROL);
        late.wait(|state| state.open == 8);
        unfinished(&mut bench);
        late.give(vec![Answer::Okay(0); 7]);
        late.wait(|state| state.given.is_empty());
        unfinished(&mut bench);
        late.give([Answer::Okay(0)]);
        bench.wait_register(0x40, BUSY, 0);
        assert_eq!((bench.read(0x48), bench.word(0x100)), (1, 1));
        bench.clean();
    }
}

#[test]
fn an_error_among_several_ends_the_engine_and_the_rest_is_forgotten() {
    let (late, mut bench) = bench(Options::default());
    bench.start(0, &eight(), CONTROL);
    late.wait(|state| state.open == 8);
    late.give([Answer::Okay(0), Answer::Okay(0), Answer::SlaveError]);
    bench.wait_register(0x40, BUSY | SLAVE_ERROR, SLAVE_ERROR);
    assert_eq!(bench.read(0x48), 0, "no descriptor was completed");
    late.wait(|state| state.forgotten == 5);
    // Not logged, it counts as done.
    bench.write(0x04, 0);
    bench.read(0x44);
    bench.start(0, &eight(), 1);
    late.wait(|state| state.open == 8);
    late.give([Answer::DecodeError; 8]);
    bench.wait_register(0x40, BUSY, 0);
    assert_eq!(bench.read(0x48), 1);
}

#[test]
fn a_stop_waits_for_the_answers_and_a_reset_does_not() {
    let (late, mut bench) = bench(Options { function_reset: true, ..Options::default() });
    bench.start(0, &eight(), CONTROL);
    late.wait(|state| state.open == 8);
    bench.write(0x04, CONTROL & !1);
    unfinished(&mut bench);
    late.give(vec![Answer::Okay(0); 8]);
    bench.wait_register(0x40, BUSY, 0);
    assert_eq!(bench.read(0x48), 1);

    bench.start(0, &eight(), CONTROL);
    late.wait(|state| state.open == 8);
    bench.client.reset().unwrap();
    late.wait(|state| state.forgotten == 8);
    bench.set_bus_master(true);
    // What came before the reset is not taken for an answer to what comes after it.
    bench.start(0, &eight(), CONTROL);
    late.wait(|state| state.open == 8);
    unfinished(&mut bench);
    late.give(vec![Answer::Okay(0); 8]);
    bench.wait_register(0x40, BUSY, 0);
}

#[test]
fn the_shell_ends_what_is_never_answered() {
    let options = Options { axi_timeout: Some(Duration::from_millis(200)), ..Options::default() };
    let (late, mut bench) = bench(options);
    bench.start(0, &eight(), CONTROL);
    late.wait(|state| state.open == 8);
    late.give([Answer::Okay(0); 3]);
    bench.wait_register(0x40, BUSY, 0);
    assert_eq!((bench.read(0x48), bench.word(0x100)), (1, 1));
    assert_eq!(bench.card.counters().axi_timeouts, 5);
    late.wait(|state| state.forgotten == 5);
}

#[test]
fn an_access_through_the_bar_takes_its_own_answer_or_gives_it_up() {
    let (late, mut bench) = bench(Options { profile: Profile::F1, ..Options::default() });
    let mut access = || bench.client.region_write(4, 0x1000, &[7; 64]).unwrap();
    access();
    late.wait(|state| state.forgotten == 1);
    late.give([Answer::Okay(0)]);
    access();
    late.wait(|state| state.given.is_empty() && state.open == 0);
    assert_eq!(late.state.lock().unwrap().forgotten, 1);
}
