//! Cards that are removed, hang, or return wrong results.

use crate::common::{Fixture, LIMIT, cpu, emulated, eventually, options, points, scalars, slow, source};
use ark_bn254::G1Affine;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma::regs::Direction;
use xdma_cards::{
    CardSource, Cards, CardsOptions, PartError, PointSource, ReadmitError, Scalars, Sum, SumError,
};
use xdma_emulated_card::emulator::faults::{FaultDuration, Injection, Kind, Plan};
use xdma_emulated_card::emulator::logic::msm::{BitFlip, Window};
use xdma_emulated_card::emulator::logic::{Design, MsmModelOptions};
use xdma_emulated_card::emulator::{EmulatedCard, EmulatorOptions};

/// Three cards and a sum that takes them half a second. Its parts do not fit into the FIFOs, so the cards are fed while they compute.
fn busy_cards(options: CardsOptions) -> Fixture {
    Fixture::new(vec![slow(8000.0); 3], 12_000, options)
}

/// Starts a sum, and injects a fault into card 1 while it computes.
fn sum_with_fault(fixture: &Fixture, fault: impl Into<Injection>) -> Sum {
    let scalars = Scalars::from_fr(fixture.scalars.clone());
    let mut pending = fixture.cards.submit(&fixture.bases, 0, &scalars, 0..scalars.len()).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    assert!(!pending.is_finished());
    fixture.emulated[1].inject(fault).unwrap();
    let sum = pending.wait(LIMIT).unwrap();
    assert!(sum.point == cpu(&fixture.points, &fixture.scalars), "the sum is wrong");
    sum
}

/// Checks that card 1 failed, is out of service, and that only its part was done again.
fn check_failed(fixture: &Fixture, sum: &Sum) -> String {
    assert_eq!(fixture.in_service(), [0, 2]);
    let [failure] = &sum.failures[..] else { panic!("{:?}", sum.failures) };
    assert_eq!(&*failure.card, "card 1");
    assert_eq!(failure.pairs, fixture.points.len() / 3 / 2 * 2, "its part");
    assert!(sum.parts.iter().all(|part| &*part.card != "card 1"));
    assert_eq!(sum.parts.iter().map(|part| part.pairs.len()).sum::<usize>(), fixture.points.len());
    // The next sum does not wait for the card.
    let begin = Instant::now();
    assert!(fixture.check().failures.is_empty());
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    failure.error.to_string()
}

#[test]
fn a_card_that_is_removed_during_a_sum() {
    let fixture = busy_cards(options());
    let sum = sum_with_fault(&fixture, Kind::LinkDown);
    let error = check_failed(&fixture, &sum);
    assert!(error.contains("gone"), "{error}");
    // The link is still down.
    let error = fixture.cards.readmit(1, LIMIT).unwrap_err();
    assert!(matches!(error, ReadmitError::Card { .. }) && error.to_string().contains("card 1"), "{error}");
    assert_eq!(fixture.in_service(), [0, 2]);
    // The link comes up again.
    fixture.emulated[1].inject(Kind::LinkUp).unwrap();
    fixture.cards.readmit(1, LIMIT).unwrap();
    assert_eq!(fixture.in_service(), [0, 1, 2]);
    let sum = fixture.check();
    assert!(sum.parts.iter().any(|part| &*part.card == "card 1"), "{:?}", sum.parts);
    assert_eq!(fixture.cards.status()[1].readmissions, 1);
}

#[test]
fn a_card_whose_process_is_killed_during_a_sum() {
    let fixture = busy_cards(options());
    let sum = sum_with_fault(&fixture, Kind::ProcessGone);
    check_failed(&fixture, &sum);
    assert!(fixture.cards.readmit(1, LIMIT).is_err());
}

/// A card that is opened again, here another one, gets its copies of the points.
#[test]
fn a_card_that_is_replaced_computes_again() {
    let slot = Arc::new(Mutex::new(emulated(MsmModelOptions::default())));
    let (other, from) = (emulated(MsmModelOptions::default()), Arc::clone(&slot));
    let replaceable = CardSource::with("replaceable", move || {
        xdma_emulated_card::connect(&from.lock().unwrap(), CardOptions::default())
    });
    let cards = Cards::open([source("other", &other), replaceable], options()).unwrap();
    let (points, scalars) = (points(300), scalars(300));
    let bases = cards.register(points.clone()).unwrap();
    let sum = || {
        let sum = cards.sum(&bases, &Scalars::from_fr(scalars.clone()), LIMIT).unwrap();
        assert!(sum.point == cpu(&points, &scalars));
        (sum.parts.len(), sum.failures.len())
    };
    assert_eq!(sum(), (2, 0));
    slot.lock().unwrap().inject(Kind::ProcessGone).unwrap();
    assert_eq!(sum(), (2, 1));
    *slot.lock().unwrap() = emulated(MsmModelOptions::default());
    cards.readmit(1, LIMIT).unwrap();
    assert_eq!(sum(), (2, 0));
}

#[test]
fn a_card_that_hangs_is_taken_out_at_its_deadline() {
    let options = CardsOptions { timeout_margin: Duration::from_secs(1), ..options() };
    let fixture = busy_cards(options);
    let begin = Instant::now();
    let sum = sum_with_fault(&fixture, Kind::AxiHang(FaultDuration::Forever).on(Direction::H2C, 0));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let error = check_failed(&fixture, &sum);
    assert!(error.contains("not finished within"), "{error}");
    // The card is reset.
    fixture.cards.readmit(1, LIMIT).unwrap();
    assert_eq!(fixture.in_service(), [0, 1, 2]);
    fixture.check();
}

#[test]
fn an_engine_error_takes_the_card_out_and_loses_nothing() {
    let fixture = busy_cards(options());
    let sum = sum_with_fault(&fixture, Kind::AxiSlaveError.on(Direction::H2C, 0));
    check_failed(&fixture, &sum);
    fixture.cards.readmit(1, LIMIT).unwrap();
    fixture.check();
}

#[test]
fn with_more_failures_allowed_a_card_recovers_and_stays() {
    let options = CardsOptions { max_failures: 2, ..options() };
    let fixture = busy_cards(options);
    let sum = sum_with_fault(&fixture, Kind::AxiSlaveError.on(Direction::H2C, 0));
    assert_eq!(sum.failures.len(), 1);
    assert_eq!(fixture.in_service(), [0, 1, 2]);
    assert_eq!(fixture.cards.status()[1].failures, 1);
    fixture.check();
}

fn wrong(window: Window) -> MsmModelOptions {
    let flip = BitFlip { window, byte: 64 * 17, mask: 1 };
    MsmModelOptions { flip: Some(flip), ..MsmModelOptions::default() }
}

#[test]
fn a_wrong_result_is_caught_and_its_card_named() {
    for window in [Window::Points, Window::Scalars] {
        let models = vec![MsmModelOptions::default(), wrong(window), MsmModelOptions::default()];
        let fixture = Fixture::new(models, 600, CardsOptions { check: true, ..options() });
        let sum = fixture.check();
        let error = check_failed(&fixture, &sum);
        assert!(error.contains("the card's result is wrong"), "{error}");
        let status = &fixture.cards.status()[1];
        assert_eq!((status.wrong_results, status.failures, status.parts), (1, 0, 0));
        assert!(matches!(status.last_error.as_deref(), Some(PartError::Wrong { .. })));
        // Another image is loaded, without the fault.
        let design = Design::Msm(MsmModelOptions::default()).build();
        fixture.emulated[1].load(fixture.emulated[1].options(), design).unwrap();
        fixture.cards.readmit(1, LIMIT).unwrap();
        assert!(fixture.check().failures.is_empty());
    }
}

#[test]
fn without_the_check_a_wrong_result_is_not_caught() {
    let models = vec![MsmModelOptions::default(), wrong(Window::Points)];
    let fixture = Fixture::new(models, 600, options());
    let sum = fixture.sum().unwrap();
    assert!(sum.point != cpu(&fixture.points, &fixture.scalars) && sum.failures.is_empty());
    assert_eq!(fixture.in_service(), [0, 1]);
}

#[test]
fn without_any_card_a_sum_fails_and_nothing_hangs() {
    let fixture = Fixture::new(vec![slow(2000.0); 2], 2000, options());
    let scalars = Scalars::from_fr(fixture.scalars.clone());
    let sums = || fixture.cards.submit(&fixture.bases, 0, &scalars, 0..2000).unwrap();
    let mut pending = [sums(), sums()];
    std::thread::sleep(Duration::from_millis(100));
    for emulated in &fixture.emulated {
        emulated.inject(Kind::LinkDown).unwrap();
    }
    for pending in &mut pending {
        let error = pending.wait(LIMIT).unwrap_err();
        assert!(matches!(error, SumError::NoCardLeft { .. }), "{error}");
        // The error is final.
        assert!(matches!(pending.wait(LIMIT), Err(SumError::NoCardLeft { .. })));
    }
    assert!(fixture.in_service().is_empty());
    let begin = Instant::now();
    let error = fixture.sum().unwrap_err();
    let SumError::NoCardLeft { pairs: 2000, failures } = &error else { panic!("{error}") };
    assert!(failures.is_empty() && begin.elapsed() < Duration::from_secs(1));
    // One card suffices again.
    fixture.emulated[0].inject(Kind::LinkUp).unwrap();
    fixture.cards.readmit(0, LIMIT).unwrap();
    fixture.check();
    assert!(matches!(fixture.cards.readmit(7, LIMIT), Err(ReadmitError::NoSuchCard { index: 7, cards: 2 })));
}

/// Points that were registered while a card was out of service are copied to it when it is readmitted.
#[test]
fn a_readmitted_card_gets_the_points_that_it_missed() {
    let fixture = Fixture::new(vec![MsmModelOptions::default(); 2], 200, options());
    for (fault, repaired) in [(Kind::LinkDown, Some(Kind::LinkUp)), (Kind::AxiSlaveError, None)] {
        fixture.emulated[1].inject(fault).unwrap();
        fixture.check();
        assert_eq!(fixture.in_service(), [0]);
        let bases = fixture.cards.register(fixture.points.clone()).unwrap();
        if let Some(repaired) = repaired {
            fixture.emulated[1].inject(repaired).unwrap();
        }
        fixture.cards.readmit(1, LIMIT).unwrap();
        let scalars = Scalars::from_fr(fixture.scalars.clone());
        let sum = fixture.cards.sum(&bases, &scalars, LIMIT).unwrap();
        assert!(sum.failures.is_empty() && sum.parts.len() == 2, "{sum:?}");
        assert!(sum.point == cpu(&fixture.points, &fixture.scalars));
    }
}

#[test]
fn wrong_results_that_the_caller_finds_take_the_card_out() {
    let fixture =
        Fixture::new(vec![MsmModelOptions::default(); 2], 200, CardsOptions { max_failures: 2, ..options() });
    fixture.cards.report_wrong_result(1).unwrap();
    fixture.check();
    assert_eq!(fixture.in_service(), [0, 1]);
    fixture.cards.report_wrong_result(1).unwrap();
    eventually("card 1 stays in service", || fixture.in_service() == [0]);
    fixture.check();
    assert!(fixture.cards.report_wrong_result(2).is_err());
}

/// Whatever the cards do, except for returning wrong data silently, a sum is right or an error.
#[test]
fn with_random_faults_a_sum_is_right_or_an_error() {
    let (mut right, mut failed_parts, mut errors) = (0, 0, 0);
    for seed in 0..8 {
        let emulated: Vec<_> = (0..3)
            .map(|card| {
                let mut faults = Plan::chaos(10 * seed + card);
                // The sums are short.
                faults.faults.iter_mut().for_each(|injection| injection.after %= 40);
                let options =
                    EmulatorOptions { faults, ..EmulatorOptions::default() }.with_function_reset(true);
                let design = Design::Msm(MsmModelOptions::default()).build();
                Arc::new(EmulatedCard::start(options, design).unwrap())
            })
            .collect();
        let sources = emulated.iter().enumerate().map(|(index, card)| source(&format!("card {index}"), card));
        let options =
            CardsOptions { timeout_margin: Duration::from_secs(1), require_all: false, ..options() };
        let Ok(cards) = Cards::open(sources.collect::<Vec<_>>(), options) else { continue };
        let (points, scalars) = (points(3000), scalars(3000));
        let expected = cpu(&points, &scalars);
        let bases = cards.register(points).unwrap();
        for _ in 0..12 {
            match cards.sum(&bases, &Scalars::from_fr(scalars.clone()), LIMIT) {
                Ok(sum) => {
                    assert!(sum.point == expected, "seed {seed}: a wrong sum from {:?}", sum.parts);
                    right += 1;
                    failed_parts += sum.failures.len();
                }
                Err(SumError::NoCardLeft { .. }) => errors += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
            // A card that is not ready yet stays out of service.
            (0..3).for_each(|card| drop(cards.readmit(card, LIMIT)));
        }
    }
    println!("{right} right, {failed_parts} failed parts, {errors} without a card");
    assert!(right >= 30 && failed_parts >= 5, "{right} right, {failed_parts} failed parts, {errors} errors");
}

/// Points whose owner panics when a card copies them.
struct PanickingPoints(AtomicU32);

impl PointSource for PanickingPoints {
    fn read(&self, read: &mut dyn FnMut(&[G1Affine])) {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) == 0, "this panic is part of the test");
        read(&points(10));
    }
}

#[test]
fn a_panic_in_a_thread_takes_its_card_out_and_nothing_hangs() {
    let fixture = Fixture::new(vec![MsmModelOptions::default(); 2], 200, options());
    fixture.check();
    drop(fixture.cards.register(PanickingPoints(AtomicU32::new(0))));
    eventually("a card without a thread is in service", || fixture.in_service().is_empty());
    assert!(matches!(fixture.sum(), Err(SumError::NoCardLeft { .. })));
    let error = fixture.cards.readmit(0, LIMIT).unwrap_err();
    assert!(error.to_string().contains("its thread ended"), "{error}");
    assert!(fixture.cards.h2c_stats(1).is_none());
    drop(fixture.cards.register(points(10)));
}
