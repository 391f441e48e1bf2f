//! What happens to sums, cards and memory at the end.

use crate::common::{Fixture, LIMIT, cpu, emulated, eventually, options, points, scalars, slow, source};
use ark_bn254::G1Affine;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use xdma::card::{Card, CardName, CardOptions};
use xdma::unstable::card::Companions;
use xdma::unstable::memory::ReleaseObserver;
use xdma_cards::{CardSource, Cards, CardsOptions, PointSource, ReadmitError, Scalars, SumError};
use xdma_emulated_card::emulator::EmulatedCard;
use xdma_emulated_card::emulator::faults::Kind;
use xdma_emulated_card::emulator::logic::MsmModelOptions;

#[test]
fn dropping_the_cards_ends_sums_in_progress() {
    let fixture = Fixture::new(vec![slow(100.0); 2], 2000, options());
    let scalars = Scalars::from_fr(fixture.scalars.clone());
    let mut pending: Vec<_> =
        (0..4).map(|_| fixture.cards.submit(&fixture.bases, 0, &scalars, 0..2000).unwrap()).collect();
    thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    let other = {
        // Moves the cards out of the fixture, to drop them first.
        let cards = thread::spawn(move || drop(fixture));
        pending.iter_mut().all(|pending| matches!(pending.wait(LIMIT), Err(SumError::Closed))) && {
            cards.join().unwrap();
            true
        }
    };
    // They would take 20 s.
    assert!(other && begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

/// Points that own the cards on which they are registered.
struct Owning {
    points: Vec<G1Affine>,
    /// Dropped first.
    _cards: Arc<Cards>,
    _dropped: Dropped,
}

impl PointSource for Owning {
    fn read(&self, read: &mut dyn FnMut(&[G1Affine])) {
        read(&self.points);
    }
}

/// Tells which thread drops it, and whether that thread panics.
struct Dropped(Sender<(ThreadId, bool)>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send((thread::current().id(), thread::panicking())).unwrap();
    }
}

/// The last owner of the cards is dropped by the thread of a card, which cannot wait for itself.
#[test]
fn the_thread_of_a_card_can_drop_the_cards() {
    let emulated = emulated(slow(500.0));
    let cards = Arc::new(Cards::open([source("card", &emulated)], options()).unwrap());
    let (sender, dropped) = channel();
    let owning = Owning { points: points(300), _cards: Arc::clone(&cards), _dropped: Dropped(sender) };
    let bases = cards.register(owning).unwrap();
    let pending = cards.submit(&bases, 0, &Scalars::from_fr(scalars(300)), 0..300).unwrap();
    eventually("the part does not run", || cards.status()[0].running_pairs > 0);
    drop((cards, pending, bases));
    let (by, is_panicking) = dropped.recv_timeout(LIMIT).unwrap();
    assert!(by != thread::current().id() && !is_panicking);
    // The card is closed: it serves one client at a time.
    eventually("the card stays open", || {
        xdma_emulated_card::connect(&emulated, CardOptions::default()).is_ok()
    });
}

/// A child process has none of the threads that compute.
#[test]
fn a_sum_of_the_parent_is_closed_in_a_forked_child() {
    let fixture = Fixture::new(vec![slow(1000.0)], 500, options());
    let scalars = Scalars::from_fr(fixture.scalars.clone());
    let mut pending = fixture.cards.submit(&fixture.bases, 0, &scalars, 0..500).unwrap();
    // SAFETY: the child uses no other thread, and ends without running destructors of others.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_closed = matches!(pending.wait(LIMIT), Err(SumError::Closed));
        // SAFETY: as above.
        unsafe { libc::_exit(if is_closed { 0 } else { 1 }) }
    }
    let mut status = 0;
    // SAFETY: the child exists.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    assert!(pending.wait(LIMIT).unwrap().point == cpu(&fixture.points, &fixture.scalars));
}

#[test]
fn an_abandoned_sum_leaves_the_cards_usable() {
    let fixture = Fixture::new(vec![slow(1000.0); 2], 2000, options());
    let scalars = Scalars::from_fr(fixture.scalars.clone());
    let begin = Instant::now();
    for _ in 0..3 {
        let error = fixture.cards.sum(&fixture.bases, &scalars, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, SumError::Deadline { .. }), "{error}");
    }
    let mut small = fixture.cards.submit(&fixture.bases, 0, &scalars, 0..10).unwrap();
    assert!(small.wait(LIMIT).unwrap().point == cpu(&fixture.points[..10], &fixture.scalars[..10]));
    // The abandoned sums would take 3 s.
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(fixture.in_service(), [0, 1]);
    assert!(fixture.cards.status().iter().all(|card| card.failures == 0));
}

/// Counts the bytes of DMA memory in use.
#[derive(Default)]
struct InUse(AtomicI64);

impl ReleaseObserver for InUse {
    fn allocated(&self, _: u64, len: u64) {
        self.0.fetch_add(len as i64, Ordering::Relaxed);
    }

    fn released(&self, _: u64, len: u64) {
        self.0.fetch_sub(len as i64, Ordering::Relaxed);
    }
}

fn open(emulated: &EmulatedCard, in_use: &Arc<InUse>) -> Card {
    let companions = Companions { observer: Some(in_use.clone()), model: None };
    let name = CardName::Socket(emulated.socket().into());
    xdma::unstable::card::open(&name, CardOptions::default(), companions).unwrap()
}

#[test]
fn memory_is_returned() {
    let emulated = [0, 1].map(|_| emulated(MsmModelOptions::default()));
    let in_use = [0, 1].map(|_| Arc::<InUse>::default());
    let bytes = || in_use.iter().map(|in_use| in_use.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let sources = [0, 1].map(|card: usize| {
        let (emulated, in_use) = (emulated[card].clone(), in_use[card].clone());
        CardSource::with(format!("card {card}"), move || Ok::<_, std::io::Error>(open(&emulated, &in_use)))
    });
    let cards = Cards::open(sources, CardsOptions { check: true, ..options() }).unwrap();
    let before = bytes();
    let (points, scalars) = (points(3000), Scalars::from_fr(scalars(3000)));
    for _ in 0..3 {
        let bases = cards.register(points.clone()).unwrap();
        let pending = cards.submit(&bases, 0, &scalars, 0..3000).unwrap();
        drop(bases);
        assert!(bytes().iter().zip(&before).all(|(now, before)| *now >= before + 2 * 3000 * 64));
        let mut pending = pending;
        pending.wait(LIMIT).unwrap();
        drop(pending);
        eventually("memory stays in use after the points are dropped", || bytes() == before);
    }
    // A card that fails returns its memory when it is opened again.
    let bases = cards.register(points.clone()).unwrap();
    let with_points = bytes();
    emulated[1].inject(Kind::LinkDown).unwrap();
    cards.sum(&bases, &scalars, LIMIT).unwrap();
    emulated[1].inject(Kind::LinkUp).unwrap();
    cards.readmit(1, LIMIT).unwrap();
    assert!(bytes()[1] <= 2 * with_points[1], "{:?}, {with_points:?}", bytes());
    drop((bases, cards));
    assert_eq!(bytes()[0], 0);
}

#[test]
fn a_card_that_was_passed_open_cannot_be_opened_again() {
    let emulated = emulated(MsmModelOptions::default());
    let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
    let cards = Cards::open([CardSource::opened("mine", card)], options()).unwrap();
    let bases = cards.register(points(100)).unwrap();
    let scalars = Scalars::from_fr(scalars(100));
    emulated.inject(Kind::AxiSlaveError).unwrap();
    assert!(matches!(cards.sum(&bases, &scalars, LIMIT), Err(SumError::NoCardLeft { .. })));
    // This card recovers without being opened again, also after its link was down.
    cards.readmit(0, LIMIT).unwrap();
    assert!(cards.sum(&bases, &scalars, LIMIT).is_ok());
    emulated.inject(Kind::LinkDown).unwrap();
    assert!(cards.sum(&bases, &scalars, LIMIT).is_err());
    emulated.inject(Kind::LinkUp).unwrap();
    cards.readmit(0, LIMIT).unwrap();
    assert!(cards.sum(&bases, &scalars, LIMIT).is_ok());
    emulated.inject(Kind::ProcessGone).unwrap();
    assert!(cards.sum(&bases, &scalars, LIMIT).is_err());
    let error = cards.readmit(0, LIMIT).unwrap_err();
    assert!(matches!(error, ReadmitError::NotReopenable { .. }), "{error}");
}
