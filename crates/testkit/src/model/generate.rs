//! How plans are made up: what happens how often.

use super::plan::{
    Action, BUFFER, BUFFERS, End, Foreign, Move, PAIRS, Plan, REGION, Setup, Side, Step, Under,
};
use proptest::prelude::*;
use std::time::Duration;
use xdma_emulator::faults::{BadCompletion, Kind, Lasting};
use xdma_emulator::{Latency, Options, Profile, Switches};

/// Cards of a plan at most.
const CARDS: usize = 3;

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::H2C), Just(Side::C2H)]
}

fn one_move() -> impl Strategy<Value = Move> {
    let len = prop_oneof![1..200u64, 1..BUFFER];
    (0..BUFFERS, 0..BUFFER, 0..REGION, len).prop_map(|(buffer, host, card, len)| Move {
        buffer,
        host,
        card,
        len: len.min(BUFFER - host).min(REGION - card),
    })
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    prop::collection::vec(one_move(), 1..6)
}

fn completion() -> impl Strategy<Value = BadCompletion> {
    prop_oneof![
        Just(BadCompletion::UnsupportedRequest),
        Just(BadCompletion::CompleterAbort),
        Just(BadCompletion::Parity),
        Just(BadCompletion::Poisoned),
        Just(BadCompletion::Unexpected),
    ]
}

fn failure() -> impl Strategy<Value = Kind> {
    prop_oneof![
        completion().prop_map(Kind::Fetch),
        completion().prop_map(Kind::HostRead),
        Just(Kind::BadMagic),
        Just(Kind::AxiSlaveError),
        Just(Kind::AxiDecodeError),
    ]
}

fn disturbance() -> impl Strategy<Value = Kind> {
    let lasting = || (1..4u64).prop_map(Lasting::Millis);
    prop_oneof![
        (1..4u64).prop_map(Kind::WriteBackDelayed),
        Just(Kind::InterruptLost),
        Just(Kind::InterruptRepeated),
        lasting().prop_map(Kind::AxiHang),
        lasting().prop_map(Kind::BusyStuck),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![6 => Just(End::Close), 5 => Just(End::Drop), 1 => Just(End::Forget)]
}

/// Registers of all ones mostly come with an engine that hangs, or the engine would be done by the time that memory is used again.
fn under() -> impl Strategy<Value = Under> {
    let (short, long) = (|| 2..10u64, || 4..25u64);
    prop_oneof![
        3 => Just(Under::default()),
        1 => short().prop_map(|all_ones| Under { all_ones: Some(all_ones), ..Under::default() }),
        4 => (short(), long()).prop_map(|(all_ones, hang)| {
            Under { all_ones: Some(all_ones), hang: Some(hang), ..Under::default() }
        }),
        1 => (10..80u64).prop_map(|hang| Under { hang: Some(hang), ..Under::default() }),
        1 => (10..80u64).prop_map(|busy| Under { busy: Some(busy), ..Under::default() }),
    ]
}

fn foreign() -> impl Strategy<Value = Foreign> {
    prop_oneof![
        Just(Foreign::Memory),
        Just(Foreign::List),
        Just(Foreign::Build),
        Just(Foreign::Program),
        Just(Foreign::Ticket),
    ]
}

/// Transfers, and what a program does with a channel that works.
fn work() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0..BUFFERS, 0..BUFFER, 1..BUFFER, any::<u64>())
            .prop_map(|(buffer, at, len, seed)| Action::Fill { buffer, at, len: len.min(BUFFER - at), seed }),
        16 => moves().prop_map(Action::Submit),
        3 => moves().prop_map(Action::Build),
        6 => Just(Action::Run),
        8 => Just(Action::Poll),
        6 => Just(Action::Wait),
        2 => any::<bool>().prop_map(|forget| Action::Await { forget }),
        2 => Just(Action::Stop),
        2 => Just(Action::Recover),
        3 => Just(Action::Check),
        2 => foreign().prop_map(Action::Foreign),
    ]
}

/// Ends of handles.
fn ending() -> impl Strategy<Value = Action> {
    let rarely = || prop::bool::weighted(0.1);
    prop_oneof![
        8 => (end(), under(), moves(), any::<bool>())
            .prop_map(|(how, under, moves, credits)| Action::End { how, under, moves, credits }),
        6 => (0..BUFFERS, rarely()).prop_map(|(buffer, forget)| Action::EndBuffer { buffer, forget }),
        2 => rarely().prop_map(|forget| Action::EndProgram { forget }),
        1 => end().prop_map(|how| Action::Link { how }),
        2 => (end(), under(), moves(), any::<bool>())
            .prop_map(|(how, under, moves, card_first)| Action::Reopen { how, under, moves, card_first }),
        1 => end().prop_map(|how| Action::ProcessGone { how }),
    ]
}

fn trouble() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => failure().prop_map(Action::Fail),
        3 => disturbance().prop_map(Action::Disturb),
        1 => (1..10u64).prop_map(Action::AllOnes),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let action = prop_oneof![56 => work(), 8 => ending(), 7 => trouble()];
    (0..CARDS, 0..PAIRS, side(), action).prop_map(|(card, pair, side, action)| {
        let side = match action {
            Action::Fill { .. } | Action::Fail(Kind::HostRead(_)) => Side::H2C,
            _ => side,
        };
        Step { card, pair, side, action }
    })
}

/// What silicon leaves free, and so the emulated card: the driver must be right in any case.
fn options() -> impl Strategy<Value = Options> {
    let switches = (any::<[bool; 5]>(), 0..50u64).prop_map(|(switch, lag)| Switches {
        mm_credits: switch[0],
        busy_without_credits: switch[1],
        busy_lag: Duration::from_micros(lag),
        stop_clears_run: switch[2],
        error_write_back: switch[3],
        stop_ends_idle_stream: switch[4],
        ..Switches::default()
    });
    let profile = prop_oneof![Just(Profile::F1), Just(Profile::Alveo)];
    (any::<u64>(), any::<bool>(), 0..30u64, 0..30u64, switches, profile).prop_map(
        |(seed, synchronous, fetch, completion, switches, profile)| Options {
            profile,
            seed,
            synchronous,
            switches,
            h2c_channels: PAIRS,
            c2h_channels: PAIRS,
            latency: Latency {
                fetch: Duration::from_micros(fetch),
                completion: Duration::from_micros(completion),
            },
            ..Options::default()
        },
    )
}

fn setup() -> impl Strategy<Value = Setup> {
    (options(), any::<bool>(), any::<bool>(), any::<u64>())
        .prop_map(|(options, credits, sleep, address_seed)| Setup { options, credits, sleep, address_seed })
}

/// Plans of up to so many steps.
pub fn plans(steps: usize) -> impl Strategy<Value = Plan> {
    (prop::collection::vec(setup(), 2..=CARDS), prop::collection::vec(step(), 1..steps))
        .prop_map(|(cards, steps)| Plan { cards, steps })
}
