//! Which card computes what.

use crate::common::{Fixture, LIMIT, cpu, emulated, options, points, scalars, slow};
use std::thread;
use xdma::card::{Card, CardOptions};
use xdma::regs::msm::CORE_BUSY;
use xdma_cards::{CardSource, Cards, CardsOptions, Scalars};
use xdma_emulated_card::emulator::logic::MsmModelOptions;
use xdma_emulated_card::emulator::logic::msm::CoreCycles;

#[test]
fn parts_follow_the_measured_speeds() {
    let fixture = Fixture::new(vec![slow(5_000.0), slow(1_250.0)], 2000, options());
    let pairs = |card: &str| {
        let sum = fixture.check();
        sum.parts.iter().filter(|part| &*part.card == card).map(|part| part.pairs.len()).sum::<usize>()
    };
    assert_eq!(pairs("card 1"), 1000, "nothing was measured before the first sum");
    let second = pairs("card 1");
    // With exact speeds, a fifth. The arithmetic of the model takes time as well, more on a busy machine.
    assert!((200..800).contains(&second), "{second}");
    let status = fixture.cards.status();
    let speeds = [0, 1].map(|card: usize| status[card].speed.unwrap());
    assert!(speeds[0] > 1.3 * speeds[1], "{speeds:?}");
}

#[test]
fn many_small_sums_from_many_threads() {
    let fixture = Fixture::new(
        vec![MsmModelOptions::default(); 3],
        200,
        CardsOptions { min_part: 1 << 15, ..options() },
    );
    thread::scope(|scope| {
        for thread in 0..8 {
            let fixture = &fixture;
            scope.spawn(move || {
                let scalars = Scalars::from_fr(fixture.scalars.clone());
                let ranges = (0..12).map(|sum| (thread * 5 + sum, 20 + sum * 10));
                let pending: Vec<_> = ranges
                    .clone()
                    .map(|(first, len)| {
                        fixture.cards.submit(&fixture.bases, first, &scalars, 0..len).unwrap()
                    })
                    .collect();
                for ((first, len), mut pending) in ranges.zip(pending) {
                    let expected = cpu(&fixture.points[first..first + len], &fixture.scalars[..len]);
                    let sum = pending.wait(LIMIT).unwrap();
                    assert!(sum.point == expected && sum.parts.len() == 1, "{first}, {len}");
                }
            });
        }
    });
    let status = fixture.cards.status();
    assert_eq!(status.iter().map(|card| card.parts).sum::<u64>(), 96);
    assert!(
        status.iter().all(|card| card.parts > 0 && card.running_pairs + card.queued_pairs == 0),
        "{status:?}"
    );
}

#[test]
fn a_large_sum_takes_less_time_on_more_cards() {
    let time = |count| {
        let fixture = Fixture::new(vec![slow(4000.0); count], 4000, options());
        fixture.check().parts.iter().map(|part| part.time).max().unwrap()
    };
    // 1 s against 250 ms, plus the arithmetic of the model.
    let (one, four) = (time(1), time(4));
    assert!(four < one * 3 / 4, "{one:?}, {four:?}");
}

/// The scalars of the next sum are copied while the card computes, without mixing up the sums.
#[test]
fn queued_sums_with_their_own_scalars() {
    let fixture = Fixture::new(vec![slow(20_000.0); 2], 600, options());
    let values: Vec<_> = (0..20).map(|sum| fixture.scalars[sum..sum + 400].to_vec()).collect();
    let start = |(sum, values): (usize, &Vec<_>)| {
        let scalars = Scalars::from_fr(values.clone());
        fixture.cards.submit(&fixture.bases, 7 * sum, &scalars, 0..400).unwrap()
    };
    let mut pending: Vec<_> = values.iter().enumerate().map(start).collect();
    // The parts of some sums disappear from the queues.
    pending.drain(5..9);
    let values: Vec<_> = values.iter().enumerate().filter(|(sum, _)| !(5..9).contains(sum)).collect();
    for ((sum, values), mut pending) in values.into_iter().zip(pending) {
        let expected = cpu(&fixture.points[7 * sum..7 * sum + 400], values);
        assert!(pending.wait(LIMIT).unwrap().point == expected, "{sum}");
    }
}

/// The cycles of the design do not depend on the speed of this host.
#[test]
fn a_split_sum_takes_each_card_its_share_of_cycles() {
    let core = CoreCycles::new(13);
    for count in [1, 2, 4] {
        let emulated: Vec<_> = (0..count).map(|_| emulated(MsmModelOptions::default())).collect();
        let open = |card| xdma_emulated_card::connect(card, CardOptions::default()).unwrap();
        let handles: Vec<Card> = emulated.iter().map(|card| open(card)).collect();
        let sources = handles.iter().map(|card| CardSource::opened("card", card.clone()));
        let cards = Cards::open(sources, options()).unwrap();
        let bases = cards.register(points(1000)).unwrap();
        cards.sum(&bases, &Scalars::from_fr(scalars(1000)), LIMIT).unwrap();
        for card in &handles {
            let busy = u64::from(card.user().unwrap().read(CORE_BUSY).unwrap());
            assert_eq!(busy, core.pairs(1000 / count) + core.reduction(true));
        }
    }
    let time = |cards: u64| (core.pairs((1 << 20) / cards) + core.reduction(false)) as f64;
    let efficiency = time(1) / (8.0 * time(8));
    assert!((0.82..0.86).contains(&efficiency), "{efficiency}");
}
