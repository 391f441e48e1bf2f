//! What crosses threads, in miniature.

use crate::card::{Cell, Shared};
use crate::order::{self, Claims};
use crate::rules::{
    Count, LooseCount, LooseLeave, NothingAfterCompletion, NothingBeforeDoorbell, Real, Rules,
};
use crate::sync;
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;

const ENDLESS: &str = "it sleeps for ever";

/// Waits for the write-back of `count`.
fn wait<R: Rules>(shared: &Shared, count: u32) {
    while shared.write_back.load(Ordering::Relaxed) != count {
        thread::yield_now();
    }
    R::after_completion();
}

fn ring<R: Rules>(shared: &Shared, value: u32) {
    R::before_doorbell();
    shared.doorbell.store(value, Ordering::Relaxed);
}

/// Data to the card, twice in the same memory: the card sees what was written before each doorbell, and nothing later.
fn send<R: Rules>() {
    let shared = Arc::new(Shared::default());
    let card = {
        let shared = shared.clone();
        thread::spawn(move || [shared.take(1), shared.take(2)])
    };
    for count in 1..=2 {
        shared.descriptor.set(count);
        shared.payload.set(10 * count);
        ring::<R>(&shared, count);
        wait::<R>(&shared, count);
    }
    assert_eq!(card.join().unwrap(), [(1, 10), (2, 20)]);
}

/// Data from the card: it is there when the completion is.
fn receive<R: Rules>() {
    let shared = Arc::new(Shared::default());
    let card = {
        let shared = shared.clone();
        thread::spawn(move || shared.give(1, 7))
    };
    shared.descriptor.set(1);
    ring::<R>(&shared, 1);
    wait::<R>(&shared, 1);
    assert_eq!(shared.payload.get(), 7);
    card.join().unwrap();
}

/// One thread has the channel, another the memory, which it uses again when nothing is in flight any more.
fn reuse<R: Rules>() {
    let (shared, in_flight) = (Arc::new(Shared::default()), Arc::new(R::Count::default()));
    shared.payload.set(10);
    let card = {
        let shared = shared.clone();
        thread::spawn(move || shared.take(1))
    };
    in_flight.enter();
    let channel = {
        let (shared, in_flight) = (shared.clone(), in_flight.clone());
        thread::spawn(move || {
            shared.descriptor.set(1);
            ring::<R>(&shared, 1);
            wait::<R>(&shared, 1);
            in_flight.leave();
        })
    };
    if in_flight.count() == 0 {
        shared.payload.set(11);
    }
    channel.join().unwrap();
    assert_eq!(card.join().unwrap(), (1, 10));
}

/// The same with a transfer that keeps what it uses.
fn reuse_kept(uses: fn(&sync::Arc<()>) -> usize) {
    let (shared, held) = (Arc::new(Shared::default()), sync::Arc::new(()));
    shared.payload.set(10);
    let card = {
        let shared = shared.clone();
        thread::spawn(move || shared.take(1))
    };
    let channel = {
        let (shared, kept) = (shared.clone(), held.clone());
        thread::spawn(move || {
            shared.descriptor.set(1);
            ring::<Real>(&shared, 1);
            wait::<Real>(&shared, 1);
            drop(kept);
        })
    };
    if uses(&held) == 0 {
        shared.payload.set(11);
    }
    channel.join().unwrap();
    assert_eq!(card.join().unwrap(), (1, 10));
}

/// Two threads want the same channel: one has it at a time, and the next sees what the last one left.
fn hand_over() {
    let (claims, word) = (Arc::new(Claims::default()), Arc::new(Cell::default()));
    let owner = move |claims: &Claims, word: &Cell| {
        if claims.take(2) {
            word.set(word.get() + 1);
            claims.give_back(2);
        }
    };
    let other = {
        let (claims, word) = (claims.clone(), word.clone());
        thread::spawn(move || owner(&claims, &word))
    };
    owner(&claims, &word);
    other.join().unwrap();
    assert!(claims.take(2) && (1..=2).contains(&word.get()));
}

/// Sleeping until an interrupt: the status is cleared, which arms it, and then the write-back is looked at. The other way
/// round, a completion in between wakes nobody.
fn sleep(arms_first: bool) {
    let shared = Arc::new(Shared::default());
    // Something happened before that nobody cleared.
    shared.status.store(1, Ordering::Relaxed);
    let card = {
        let shared = shared.clone();
        thread::spawn(move || {
            shared.give(1, 7);
            shared.raise()
        })
    };
    shared.descriptor.set(1);
    ring::<Real>(&shared, 1);
    if arms_first {
        shared.clear();
    }
    let done = shared.write_back.load(Ordering::Relaxed) == 1;
    if !arms_first {
        shared.clear();
    }
    let interrupts = card.join().unwrap();
    assert!(done || interrupts, "{ENDLESS}");
}

fn holds(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn fails(model: fn()) {
    let reason = std::panic::catch_unwind(|| holds(model)).expect_err("loom found nothing wrong");
    let text = reason.downcast_ref::<String>().map(String::as_str).or(reason.downcast_ref::<&str>().copied());
    // Not because it grew too large.
    let text = text.expect("a panic has a text");
    assert!(text.starts_with("Causality violation") || text.starts_with(ENDLESS), "{text}");
}

#[test]
fn the_card_sees_what_was_written_before_the_doorbell() {
    holds(send::<Real>);
    fails(send::<NothingBeforeDoorbell>);
    fails(send::<NothingAfterCompletion>);
}

#[test]
fn data_is_there_when_its_completion_is() {
    holds(receive::<Real>);
    fails(receive::<NothingBeforeDoorbell>);
    fails(receive::<NothingAfterCompletion>);
}

#[test]
fn memory_is_used_again_after_the_card_is_done_with_it() {
    holds(reuse::<Real>);
    fails(reuse::<NothingAfterCompletion>);
    fails(reuse::<LooseLeave>);
    fails(reuse::<LooseCount>);
    holds(|| reuse_kept(order::uses));
    fails(|| reuse_kept(|held| sync::Arc::strong_count(held) - 1));
}

#[test]
fn a_channel_has_one_owner_at_a_time() {
    holds(hand_over);
}

#[test]
fn no_interrupt_is_lost_when_it_is_armed_before_looking() {
    holds(|| sleep(true));
    fails(|| sleep(false));
}
