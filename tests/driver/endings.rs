//! Threads and processes that end during transfers. Afterwards, the card works, and no other memory has changed.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;
use xdma::card::Card;
use xdma::channel::{Channel, Poll};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_testkit::bench::{Bench, LIMIT, works};
use xdma_testkit::process;

const LEN: u64 = 4 << 20;
const STARTED: &str = "transfers started";

/// A card with transfers in progress in both directions.
struct Work {
    card: Card,
    h2c: Channel,
    c2h: Channel,
    source: Buffer,
    sink: Buffer,
}

impl Work {
    fn begin() -> Self {
        Self::on(process::open().unwrap())
    }

    fn on(card: Card) -> Self {
        let (h2c, c2h) = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
        let source = card.allocate(LEN, Direction::H2C).unwrap();
        let sink = card.allocate(LEN, Direction::C2H).unwrap();
        let mut work = Self { card, h2c, c2h, source, sink };
        work.fill();
        work
    }

    /// Fills both rings.
    fn fill(&mut self) {
        while self.h2c.submit(&self.source, 0..LEN, 0).is_ok() {}
        while self.c2h.submit(&self.sink, 0..LEN, 0).is_ok() {}
    }

    /// Reports that transfers have started, and keeps submitting more.
    fn run_forever(mut self) -> ! {
        println!("{STARTED}");
        loop {
            for channel in [&mut self.h2c, &mut self.c2h] {
                let ticket = channel.last_ticket().unwrap();
                channel.wait(ticket, LIMIT).unwrap();
            }
            self.fill();
        }
    }
}

/// Starts a process that transfers, ends it with `end`, and checks its exit status with `check`. Afterwards, the card must work.
/// Repeats this three times.
fn ends(test: &str, end: impl Fn(&mut Child), check: impl Fn(ExitStatus)) {
    let bench = Bench::memory(EmulatorOptions::default());
    for round in 0..3 {
        let mut child = process::start(&bench.name(), test, test);
        process::await_word(&mut child, STARTED);
        std::thread::sleep(Duration::from_millis(3 + 7 * round));
        end(&mut child);
        check(process::finish(child).1);
        works(&bench.open());
    }
}

/// Like `ends`, for a process that ends itself with `how`.
fn ends_itself(test: &str, how: fn(Work) -> !, check: impl Fn(ExitStatus)) {
    if process::is(test) {
        let work = Work::begin();
        println!("{STARTED}");
        how(work);
    }
    ends(test, |_| (), check);
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: the child was not waited for, so its process ID is not reused.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

#[test]
fn sigterm() {
    const TEST: &str = "endings::sigterm";
    if process::is(TEST) {
        Work::begin().run_forever();
    }
    ends(
        TEST,
        |child| signal(child, libc::SIGTERM),
        |status| assert_eq!(status.signal(), Some(libc::SIGTERM)),
    );
}

#[test]
fn sigkill() {
    const TEST: &str = "endings::sigkill";
    if process::is(TEST) {
        Work::begin().run_forever();
    }
    ends(TEST, |child| child.kill().unwrap(), |status| assert_eq!(status.signal(), Some(libc::SIGKILL)));
}

#[test]
fn exit() {
    let check = |status: ExitStatus| assert_eq!(status.code(), Some(3));
    ends_itself("endings::exit", |_| std::process::exit(3), check);
}

#[test]
fn abort() {
    let check = |status: ExitStatus| assert_eq!(status.signal(), Some(libc::SIGABRT));
    ends_itself("endings::abort", |_| std::process::abort(), check);
}

#[test]
fn exec() {
    let how = |_| panic!("{}", Command::new("sh").args(["-c", "exit 7"]).exec());
    ends_itself("endings::exec", how, |status| assert_eq!(status.code(), Some(7)));
}

#[test]
fn a_forked_child_leaves_the_card_to_its_parent() {
    const TEST: &str = "endings::a_forked_child_leaves_the_card_to_its_parent";
    if process::is(TEST) {
        let mut work = Work::begin();
        // SAFETY: no other thread of this process holds a lock that the child needs.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(work);
            // SAFETY: the child needs no cleanup.
            unsafe { libc::_exit(42) };
        }
        let mut status = 0;
        // SAFETY: the call writes only to `status`.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 42), "{status:#x}");
        // The child has not closed any of the parent's channels.
        for channel in [&mut work.h2c, &mut work.c2h] {
            let ticket = channel.last_ticket().unwrap();
            channel.wait(ticket, LIMIT).unwrap();
        }
        let Work { card, h2c, c2h, .. } = work;
        drop((h2c, c2h));
        works(&card);
        return;
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let (output, status) = process::finish(process::start(&bench.name(), TEST, TEST));
    assert!(status.success(), "{output}");
}

#[test]
fn a_panic_closes_the_channels_that_it_drops() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _work = Work::on(card.clone());
        panic!("in the middle of transfers");
    }));
    assert!(panicked.is_err());
    works(&card);
}

#[test]
fn a_panicking_thread_closes_only_its_own_channels() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let mut other = card.h2c(1).unwrap();
    let source = card.allocate(LEN, Direction::H2C).unwrap();
    let ticket = other.submit(&source, 0..LEN, 0).unwrap();
    let clone = card.clone();
    let thread = std::thread::spawn(move || {
        let _work = Work::on(clone);
        panic!("in the middle of transfers");
    });
    assert!(thread.join().is_err());
    other.wait(ticket, LIMIT).unwrap();
    assert_eq!(other.poll(ticket).unwrap(), Poll::Ready);
    works(&card);
}
