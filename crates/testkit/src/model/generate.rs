//! Generates random plans.

use super::plan::{
    Action, BUFFER, BUFFERS, CardSetup, Disposal, EndFaults, ForeignUse, Move, PAIRS, Plan, REGION, Side,
    Step,
};
use proptest::prelude::*;
use std::time::Duration;
use xdma_emulator::faults::{BadCompletion, FaultDuration, Kind};
use xdma_emulator::{CardFile, EmulatorOptions, Latency, Switches};

/// Maximum number of cards of a plan.
const MAX_CARDS: usize = 3;

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
    let lasting = || (1..4u64).prop_map(FaultDuration::Millis);
    prop_oneof![
        (1..4u64).prop_map(Kind::WriteBackDelayed),
        Just(Kind::InterruptLost),
        Just(Kind::InterruptRepeated),
        lasting().prop_map(Kind::AxiHang),
        lasting().prop_map(Kind::BusyStuck),
    ]
}

fn disposal() -> impl Strategy<Value = Disposal> {
    prop_oneof![6 => Just(Disposal::Close), 5 => Just(Disposal::Drop), 1 => Just(Disposal::Forget)]
}

/// All-ones faults mostly occur together with a hanging engine. Otherwise the engine would finish before the memory could be
/// reused.
fn end_faults() -> impl Strategy<Value = EndFaults> {
    let (short, long) = (|| 2..10u64, || 4..25u64);
    prop_oneof![
        3 => Just(EndFaults::default()),
        1 => short().prop_map(|all_ones| EndFaults { all_ones: Some(all_ones), ..EndFaults::default() }),
        4 => (short(), long()).prop_map(|(all_ones, hang)| {
            EndFaults { all_ones: Some(all_ones), hang: Some(hang), ..EndFaults::default() }
        }),
        1 => (10..80u64).prop_map(|hang| EndFaults { hang: Some(hang), ..EndFaults::default() }),
        1 => (10..80u64).prop_map(|busy| EndFaults { busy: Some(busy), ..EndFaults::default() }),
    ]
}

fn foreign_use() -> impl Strategy<Value = ForeignUse> {
    prop_oneof![
        Just(ForeignUse::Memory),
        Just(ForeignUse::List),
        Just(ForeignUse::Build),
        Just(ForeignUse::Program),
        Just(ForeignUse::Ticket),
    ]
}

/// Regular use of a channel.
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
        2 => foreign_use().prop_map(Action::Foreign),
    ]
}

/// Ends of handles.
fn end() -> impl Strategy<Value = Action> {
    let rarely = || prop::bool::weighted(0.1);
    prop_oneof![
        8 => (disposal(), end_faults(), moves(), any::<bool>())
            .prop_map(|(how, faults, moves, credits)| Action::End { how, faults, moves, credits }),
        6 => (0..BUFFERS, rarely()).prop_map(|(buffer, forget)| Action::EndBuffer { buffer, forget }),
        2 => rarely().prop_map(|forget| Action::EndProgram { forget }),
        1 => disposal().prop_map(|how| Action::Link { how }),
        2 => (disposal(), end_faults(), moves(), any::<bool>())
            .prop_map(|(how, faults, moves, card_first)| Action::Reopen { how, faults, moves, card_first }),
        1 => disposal().prop_map(|how| Action::ProcessGone { how }),
    ]
}

fn fault() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => failure().prop_map(Action::Fail),
        3 => disturbance().prop_map(Action::Disturb),
        1 => (1..10u64).prop_map(Action::AllOnes),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let action = prop_oneof![56 => work(), 8 => end(), 7 => fault()];
    (0..MAX_CARDS, 0..PAIRS, side(), action).prop_map(|(card, pair, side, action)| {
        let side = match action {
            Action::Fill { .. } | Action::Fail(Kind::HostRead(_)) => Side::H2C,
            _ => side,
        };
        Step { card, pair, side, action }
    })
}

/// Options and switches of the emulated card. They include behaviour that the documentation of the core leaves open.
fn options() -> impl Strategy<Value = EmulatorOptions> {
    let switches = (any::<[bool; 5]>(), 0..50u32).prop_map(|(switch, lag)| Switches {
        busy_without_credits: switch[0].into(),
        busy_lag_us: lag.into(),
        stop_clears_run: switch[1].into(),
        error_write_back: switch[2].into(),
        aligned_fetch: switch[3].into(),
        stop_ends_idle_stream: switch[4].into(),
        ..Switches::default()
    });
    let card = prop_oneof![Just(CardFile::f1()), Just(CardFile::alveo())];
    (any::<u64>(), any::<[bool; 2]>(), 0..30u64, 0..30u64, switches, card).prop_map(
        |(seed, [synchronous, credits], fetch, completion, switches, card)| {
            let latency = Latency {
                fetch: Duration::from_micros(fetch),
                completion: Duration::from_micros(completion),
            };
            EmulatorOptions { seed, synchronous, latency, ..EmulatorOptions::like(card) }
                .with_switches(switches)
                .with_credits(credits)
                .with_channels(PAIRS, PAIRS)
        },
    )
}

fn setup() -> impl Strategy<Value = CardSetup> {
    (options(), any::<bool>(), any::<bool>(), any::<u64>()).prop_map(
        |(options, credits, sleep, address_seed)| CardSetup { options, credits, sleep, address_seed },
    )
}

/// Generates plans of fewer than `steps` steps.
pub fn plans(steps: usize) -> impl Strategy<Value = Plan> {
    (prop::collection::vec(setup(), 2..=MAX_CARDS), prop::collection::vec(step(), 1..steps))
        .prop_map(|(cards, steps)| Plan { cards, steps })
}
