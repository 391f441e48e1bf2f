//! Models of a client and the broker that take turns (`crates/chardev/src/turn.rs`), and of the end of either.

use crate::card::Cell;
use crate::futex;
use crate::models::{MISSED_WAKEUP, fails, holds};
use crate::turn::{BROKER, REPLIED, Turn};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::time::Duration;

/// The page that both sides map, and what the broker knows about its client.
struct Shared {
    turn: Turn,
    /// The request, and the reply, which is twice the request.
    word: Cell,
    /// Whether the client has disconnected, as the broker's thread learns it.
    is_closed: AtomicBool,
    /// Whether the broker has exited, as the client learns it.
    is_gone: AtomicBool,
}

impl Shared {
    fn new() -> Arc<Self> {
        let (turn, word) = (Turn::default(), Cell::default());
        Arc::new(Self { turn, word, is_closed: AtomicBool::new(false), is_gone: AtomicBool::new(false) })
    }

    /// The broker's thread: executes requests until the client has disconnected. Returns their number.
    fn serve(&self) -> u32 {
        let mut served = 0;
        loop {
            let seen = self.turn.get();
            if self.is_closed.load(Ordering::Relaxed) {
                return served;
            }
            if self.turn.wait_for(BROKER, seen) {
                self.word.set(2 * self.word.get());
                self.turn.pass(REPLIED);
                served += 1;
            }
        }
    }

    /// A client's call. Returns `None` if the broker has exited.
    fn call(&self, request: u32) -> Option<u32> {
        self.word.set(request);
        self.turn.pass(BROKER);
        let mut is_complete = self.turn.wait_shortly_for(REPLIED);
        while !is_complete {
            is_complete = self.turn.sleep_for(REPLIED, Duration::ZERO);
            if !is_complete && self.is_gone.load(Ordering::Acquire) {
                return None;
            }
        }
        Some(self.word.get())
    }

    /// The broker's other thread: a client has disconnected.
    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.turn.wake();
    }
}

/// Two calls, then the client disconnects. Each call receives its own reply, and the broker's thread ends.
fn calls() {
    let shared = Shared::new();
    let broker = {
        let shared = shared.clone();
        thread::spawn(move || shared.serve())
    };
    assert_eq!([3, 5].map(|request| shared.call(request)), [Some(6), Some(10)]);
    shared.close();
    assert_eq!(broker.join().unwrap(), 2);
}

/// A client that dies during a call. The broker's thread ends, whether it has seen the request or not.
fn client_dies() {
    let shared = Shared::new();
    let broker = {
        let shared = shared.clone();
        thread::spawn(move || shared.serve())
    };
    shared.word.set(3);
    shared.turn.pass(BROKER);
    shared.close();
    assert!(broker.join().unwrap() <= 1);
}

/// A broker that dies during a call, before or after it has replied. The call ends.
fn broker_dies() {
    let shared = Shared::new();
    let broker = {
        let shared = shared.clone();
        thread::spawn(move || {
            let seen = shared.turn.get();
            if shared.turn.wait_for(BROKER, seen) {
                shared.turn.pass(REPLIED);
            }
            shared.is_gone.store(true, Ordering::Release);
        })
    };
    assert!(matches!(shared.call(3), None | Some(3)));
    broker.join().unwrap();
}

/// A round of [`Shared::serve`] and [`Shared::close`], without requests, and with two errors: the thread reads the word only after
/// the check, or the word is not changed before the wake-up.
fn close_with_error(reads_late: bool, wakes_only: bool) {
    futex::return_instead();
    let shared = Shared::new();
    let broker = {
        let shared = shared.clone();
        thread::spawn(move || {
            let mut seen = shared.turn.get();
            if !shared.is_closed.load(Ordering::Relaxed) {
                if reads_late {
                    seen = shared.turn.get();
                }
                shared.turn.wait_for(BROKER, seen);
            }
        })
    };
    shared.is_closed.store(true, Ordering::Relaxed);
    match wakes_only {
        true => futex::wake_all(),
        false => shared.turn.wake(),
    }
    broker.join().unwrap();
    assert!(!futex::is_asleep(), "{MISSED_WAKEUP}");
}

#[test]
fn each_call_receives_its_reply() {
    holds(calls);
}

#[test]
fn the_broker_notices_that_a_client_dies() {
    holds(client_dies);
    holds(|| close_with_error(false, false));
    fails(|| close_with_error(true, false));
    fails(|| close_with_error(false, true));
}

#[test]
fn a_client_notices_that_the_broker_dies() {
    holds(broker_dies);
}
