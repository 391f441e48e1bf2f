//! How a thread or a process may end with the card at work: the card is whole afterwards, and so is everybody else's memory.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;
use xdma::card::Card;
use xdma::channel::{Channel, Poll};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma_emulator::Options;
use xdma_testkit::bench::{Bench, LIMIT, works};
use xdma_testkit::process;

const LEN: u64 = 4 << 20;
const UNDER_WAY: &str = "under way";

/// A card, and transfers that are under way in both directions.
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

    /// Says that transfers are under way, and keeps them so.
    fn go_on(mut self) -> ! {
        println!("{UNDER_WAY}");
        loop {
            for channel in [&mut self.h2c, &mut self.c2h] {
                let ticket = channel.last_ticket().unwrap();
                channel.wait(ticket, LIMIT).unwrap();
            }
            self.fill();
        }
    }
}

/// Three times, a process ends as `end` has it, with transfers under way; how it ended is for `judge`. Afterwards the card works.
fn ends(test: &str, end: impl Fn(&mut Child), judge: impl Fn(ExitStatus)) {
    let bench = Bench::memory(Options::default());
    for round in 0..3 {
        let mut victim = process::start(&bench.name(), test, test);
        process::await_word(&mut victim, UNDER_WAY);
        std::thread::sleep(Duration::from_millis(3 + 7 * round));
        end(&mut victim);
        judge(process::finish(victim).1);
        works(&bench.open());
    }
}

/// The same for a process that ends by itself.
fn ends_itself(test: &str, how: fn(Work) -> !, judge: impl Fn(ExitStatus)) {
    if process::is(test) {
        let work = Work::begin();
        println!("{UNDER_WAY}");
        how(work);
    }
    ends(test, |_| (), judge);
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: a child that was not waited for keeps its number.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

#[test]
fn sigterm() {
    const TEST: &str = "endings::sigterm";
    if process::is(TEST) {
        Work::begin().go_on();
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
        Work::begin().go_on();
    }
    ends(TEST, |child| child.kill().unwrap(), |status| assert_eq!(status.signal(), Some(libc::SIGKILL)));
}

#[test]
fn exit() {
    let judge = |status: ExitStatus| assert_eq!(status.code(), Some(3));
    ends_itself("endings::exit", |_| std::process::exit(3), judge);
}

#[test]
fn abort() {
    let judge = |status: ExitStatus| assert_eq!(status.signal(), Some(libc::SIGABRT));
    ends_itself("endings::abort", |_| std::process::abort(), judge);
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
            // SAFETY: nothing of the child is needed any more.
            unsafe { libc::_exit(42) };
        }
        let mut status = 0;
        // SAFETY: the status is one that may be written.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 42), "{status:#x}");
        // The child closed nothing of what the parent has.
        for channel in [&mut work.h2c, &mut work.c2h] {
            let ticket = channel.last_ticket().unwrap();
            channel.wait(ticket, LIMIT).unwrap();
        }
        let Work { card, h2c, c2h, .. } = work;
        drop((h2c, c2h));
        works(&card);
        return;
    }
    let bench = Bench::memory(Options::default());
    let (said, status) = process::finish(process::start(&bench.name(), TEST, TEST));
    assert!(status.success(), "{said}");
}

#[test]
fn a_panic_closes_what_it_drops() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _work = Work::on(card.clone());
        panic!("in the middle of transfers");
    }));
    assert!(panicked.is_err());
    works(&card);
}

#[test]
fn a_thread_that_dies_takes_its_channels_with_it_and_no_others() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let mut other = card.h2c(1).unwrap();
    let source = card.allocate(LEN, Direction::H2C).unwrap();
    let ticket = other.submit(&source, 0..LEN, 0).unwrap();
    let its = card.clone();
    let died = std::thread::spawn(move || {
        let _work = Work::on(its);
        panic!("in the middle of transfers");
    });
    assert!(died.join().is_err());
    other.wait(ticket, LIMIT).unwrap();
    assert_eq!(other.poll(ticket).unwrap(), Poll::Ready);
    works(&card);
}
