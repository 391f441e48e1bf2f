//! Small models of the driver's communication with a card and between threads.

use crate::card::{Cell, Shared};
use crate::order::{self, Claims};
use crate::orderings::{
    Count, DriverOrderings, NoFenceAfterCompletion, NoFenceBeforeDoorbell, Orderings, RelaxedCount,
    RelaxedLeave, ReusedSlot,
};
use crate::sync;
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;

pub const MISSED_WAKEUP: &str = "a thread sleeps forever";

/// Waits until the card has written `count` back.
fn wait<O: Orderings>(shared: &Shared, count: u32) {
    while shared.count.load(Ordering::Relaxed) != count {
        thread::yield_now();
    }
    O::after_completion();
}

/// Rings the doorbell.
fn ring<O: Orderings>(shared: &Shared, value: u32) {
    O::before_doorbell();
    shared.doorbell.store(value, Ordering::Relaxed);
}

/// Sends data to the card twice, in the same memory. The card sees the data written before each doorbell, and nothing later.
fn send<O: Orderings>() {
    let shared = Arc::new(Shared::default());
    let card = {
        let shared = shared.clone();
        thread::spawn(move || [shared.h2c(1), shared.h2c(2)])
    };
    for count in 1..=2 {
        shared.descriptor.set(count);
        shared.payload.set(10 * count);
        ring::<O>(&shared, count);
        wait::<O>(&shared, count);
    }
    assert_eq!(card.join().unwrap(), [(1, 10), (2, 20)]);
}

/// Receives data from the card. It is visible when the completion is.
fn receive<O: Orderings>() {
    let shared = Arc::new(Shared::default());
    let card = {
        let shared = shared.clone();
        thread::spawn(move || shared.c2h(1, 7))
    };
    shared.descriptor.set(1);
    ring::<O>(&shared, 1);
    wait::<O>(&shared, 1);
    assert_eq!(shared.payload.get(), 7);
    card.join().unwrap();
}

/// One thread owns the channel; another owns the memory, and reuses it when nothing is in flight.
fn reuse<O: Orderings>() {
    let (shared, in_flight) = (Arc::new(Shared::default()), Arc::new(O::Count::default()));
    shared.payload.set(10);
    let card = {
        let shared = shared.clone();
        thread::spawn(move || shared.h2c(1))
    };
    in_flight.enter();
    let channel = {
        let (shared, in_flight) = (shared.clone(), in_flight.clone());
        thread::spawn(move || {
            shared.descriptor.set(1);
            ring::<O>(&shared, 1);
            wait::<O>(&shared, 1);
            in_flight.leave();
        })
    };
    if in_flight.in_flight() == 0 {
        shared.payload.set(11);
    }
    channel.join().unwrap();
    assert_eq!(card.join().unwrap(), (1, 10));
}

/// Like `reuse`, but the transfer holds a reference to its memory.
fn reuse_held(uses: fn(&sync::Arc<()>) -> usize) {
    let (shared, held) = (Arc::new(Shared::default()), sync::Arc::new(()));
    shared.payload.set(10);
    let card = {
        let shared = shared.clone();
        thread::spawn(move || shared.h2c(1))
    };
    let channel = {
        let (shared, reference) = (shared.clone(), held.clone());
        thread::spawn(move || {
            shared.descriptor.set(1);
            ring::<DriverOrderings>(&shared, 1);
            wait::<DriverOrderings>(&shared, 1);
            drop(reference);
        })
    };
    if uses(&held) == 0 {
        shared.payload.set(11);
    }
    channel.join().unwrap();
    assert_eq!(card.join().unwrap(), (1, 10));
}

/// Two threads claim the same channel. Only one owns it at a time, and each owner sees the writes of the previous one.
fn hand_over() {
    let (claims, word) = (Arc::new(Claims::default()), Arc::new(Cell::default()));
    let owner = move |claims: &Claims, word: &Cell| {
        if claims.acquire(2) {
            word.set(word.get() + 1);
            claims.release(2);
        }
    };
    let other = {
        let (claims, word) = (claims.clone(), word.clone());
        thread::spawn(move || owner(&claims, &word))
    };
    owner(&claims, &word);
    other.join().unwrap();
    assert!(claims.acquire(2) && (1..=2).contains(&word.get()));
}

/// Sleeps until an interrupt. The driver clears the status, which arms the interrupt, and then checks the write-back. In the
/// reverse order, a completion in between would cause no interrupt.
fn sleep(arms_first: bool) {
    let shared = Arc::new(Shared::default());
    // An earlier event was not cleared.
    shared.status.store(1, Ordering::Relaxed);
    let card = {
        let shared = shared.clone();
        thread::spawn(move || {
            shared.c2h(1, 7);
            shared.raise()
        })
    };
    shared.descriptor.set(1);
    ring::<DriverOrderings>(&shared, 1);
    if arms_first {
        shared.clear();
    }
    let done = shared.count.load(Ordering::Relaxed) == 1;
    if !arms_first {
        shared.clear();
    }
    let interrupts = card.join().unwrap();
    assert!(done || interrupts, "{MISSED_WAKEUP}");
}

pub fn holds(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

pub fn fails(model: fn()) {
    let reason = std::panic::catch_unwind(|| holds(model)).expect_err("loom found nothing wrong");
    let text = reason.downcast_ref::<String>().map(String::as_str).or(reason.downcast_ref::<&str>().copied());
    // Fail if loom gave up for another reason, such as the size of the model.
    let text = text.expect("the panic has a message");
    assert!(text.starts_with("Causality violation") || text.starts_with(MISSED_WAKEUP), "{text}");
}

#[test]
fn the_card_sees_writes_made_before_the_doorbell() {
    holds(send::<DriverOrderings>);
    fails(send::<NoFenceBeforeDoorbell>);
    fails(send::<NoFenceAfterCompletion>);
}

#[test]
fn data_is_visible_when_its_completion_is() {
    holds(receive::<DriverOrderings>);
    fails(receive::<NoFenceBeforeDoorbell>);
    fails(receive::<NoFenceAfterCompletion>);
}

#[test]
fn memory_is_reused_only_after_the_card_has_finished_with_it() {
    holds(reuse::<DriverOrderings>);
    holds(reuse::<ReusedSlot>);
    fails(reuse::<NoFenceAfterCompletion>);
    fails(reuse::<RelaxedLeave>);
    fails(reuse::<RelaxedCount>);
    holds(|| reuse_held(order::uses));
    fails(|| reuse_held(|held| sync::Arc::strong_count(held) - 1));
}

#[test]
fn a_channel_has_one_owner_at_a_time() {
    holds(hand_over);
}

#[test]
fn no_interrupt_is_lost_if_it_is_armed_before_the_check() {
    holds(|| sleep(true));
    fails(|| sleep(false));
}
