//! What is done to a card: plans of steps, as proptest makes and shrinks them, and as they are printed to be replayed.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use xdma::emulator::faults::{BadCompletion, Kind, Lasting};
use xdma::emulator::{Latency, Options, Profile, Switches};
use xdma::engine::Ring;

/// Pairs of an H2C and a C2H channel, each with a region of the card for itself.
pub const PAIRS: usize = 2;
/// Bytes of a region.
pub const REGION: u64 = 24 << 10;
/// Bytes of a host buffer.
pub const BUFFER: u64 = 20 << 10;
/// Host buffers of each direction, of each pair.
pub const BUFFERS: usize = 2;

/// One transfer: from a host buffer to the pair's region, or back. Bytes from `host` and `card` on, cut where either ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Move {
    pub buffer: usize,
    pub host: u64,
    pub card: u64,
    pub len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    H2C,
    C2H,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Step {
    /// Write a host buffer.
    Fill {
        pair: usize,
        buffer: usize,
        at: u64,
        len: u64,
        seed: u64,
    },
    /// Start transfers as one.
    Submit {
        pair: usize,
        side: Side,
        moves: Vec<Move>,
    },
    /// Build the pair's program of a direction.
    Build {
        pair: usize,
        side: Side,
        moves: Vec<Move>,
    },
    /// Run it.
    Run {
        pair: usize,
        side: Side,
    },
    /// Look once at the oldest that is in flight.
    Poll {
        pair: usize,
        side: Side,
    },
    /// Wait for all that is in flight.
    Wait {
        pair: usize,
        side: Side,
    },
    Stop {
        pair: usize,
        side: Side,
    },
    Recover {
        pair: usize,
        side: Side,
    },
    Close {
        pair: usize,
        side: Side,
        credits: bool,
    },
    /// Drop a host buffer, in flight or not, and take another.
    Drop {
        pair: usize,
        side: Side,
        buffer: usize,
    },
    /// Read all of the region, and compare.
    Check {
        pair: usize,
    },
    /// Something goes wrong that fails the channel, now or at the next occasion.
    Fail {
        pair: usize,
        side: Side,
        fault: Kind,
    },
    /// Something goes wrong that nobody may notice but by the time it takes.
    Disturb {
        pair: usize,
        side: Side,
        fault: Kind,
    },
    /// The link goes down and comes back.
    Link,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub options: Options,
    /// Rings at the start: chain, or credits where there are any.
    pub credits: bool,
    pub steps: Vec<Step>,
}

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

fn step() -> impl Strategy<Value = Step> {
    let pair = || 0..PAIRS;
    let moves = || prop::collection::vec(one_move(), 1..6);
    prop_oneof![
        8 => (pair(), 0..BUFFERS, 0..BUFFER, 1..BUFFER, any::<u64>())
            .prop_map(|(pair, buffer, at, len, seed)| Step::Fill { pair, buffer, at, len: len.min(BUFFER - at), seed }),
        16 => (pair(), side(), moves()).prop_map(|(pair, side, moves)| Step::Submit { pair, side, moves }),
        3 => (pair(), side(), moves()).prop_map(|(pair, side, moves)| Step::Build { pair, side, moves }),
        6 => (pair(), side()).prop_map(|(pair, side)| Step::Run { pair, side }),
        8 => (pair(), side()).prop_map(|(pair, side)| Step::Poll { pair, side }),
        6 => (pair(), side()).prop_map(|(pair, side)| Step::Wait { pair, side }),
        2 => (pair(), side()).prop_map(|(pair, side)| Step::Stop { pair, side }),
        2 => (pair(), side()).prop_map(|(pair, side)| Step::Recover { pair, side }),
        1 => (pair(), side(), any::<bool>()).prop_map(|(pair, side, credits)| Step::Close { pair, side, credits }),
        2 => (pair(), side(), 0..BUFFERS).prop_map(|(pair, side, buffer)| Step::Drop { pair, side, buffer }),
        3 => pair().prop_map(|pair| Step::Check { pair }),
        3 => (pair(), side(), failure()).prop_map(|(pair, side, fault)| {
            let side = if matches!(fault, Kind::HostRead(_)) { Side::H2C } else { side };
            Step::Fail { pair, side, fault }
        }),
        3 => (pair(), side(), disturbance()).prop_map(|(pair, side, fault)| Step::Disturb { pair, side, fault }),
        1 => Just(Step::Link),
    ]
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
            latency: Latency {
                fetch: Duration::from_micros(fetch),
                completion: Duration::from_micros(completion),
            },
            ..Options::default()
        },
    )
}

/// Plans of up to so many steps.
pub fn plans(steps: usize) -> impl Strategy<Value = Plan> {
    (options(), any::<bool>(), prop::collection::vec(step(), 1..steps))
        .prop_map(|(options, credits, steps)| Plan { options, credits, steps })
}

/// The ring to ask for.
pub fn ring(options: &Options, credits: bool) -> Ring {
    if credits && options.switches.mm_credits { Ring::Credits } else { Ring::Chain }
}
