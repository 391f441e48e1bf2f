//! Plans: cards, and steps to execute on them. They are printed as JSON and can be replayed.

use serde::{Deserialize, Serialize};
use xdma::channel::{Ring, Wait};
use xdma_emulator::EmulatorOptions;
use xdma_emulator::faults::Kind;

/// Channel pairs (H2C and C2H) of each card. Each pair has its own region of card memory.
pub const PAIRS: usize = 2;
/// Bytes of a region.
pub const REGION: u64 = 24 << 10;
/// Bytes of a host buffer.
pub const BUFFER: u64 = 20 << 10;
/// Number of host buffers of each channel.
pub const BUFFERS: usize = 2;

/// One transfer between a host buffer and the region of the pair. `host` and `card` are its offsets in them.
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

impl Side {
    pub fn other(self) -> Self {
        if self == Self::H2C { Self::C2H } else { Self::H2C }
    }
}

/// How a handle is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disposal {
    /// By its method `close`, which reports errors.
    Close,
    Drop,
    /// By `mem::forget`: everything that it owns stays in use for the life of the process.
    Forget,
}

/// Faults that are active while a handle is given up. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct EndFaults {
    /// Time for which the registers read all ones.
    pub all_ones: Option<u64>,
    /// Time for which the AXI side hangs.
    pub hang: Option<u64>,
    /// Time for which the engine reports busy.
    pub busy: Option<u64>,
}

/// Attempts to use the handles of another card. Each must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForeignUse {
    /// Submit a buffer.
    Memory,
    /// Submit a list of transfers as one job.
    List,
    /// Build a program from a list.
    Build,
    /// Run a program.
    Program,
    /// Poll a ticket, and wait for it.
    Ticket,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Write to a host buffer of the H2C channel.
    Fill {
        buffer: usize,
        at: u64,
        len: u64,
        seed: u64,
    },
    /// Start several transfers as one job.
    Submit(Vec<Move>),
    /// Build the channel's program.
    Build(Vec<Move>),
    /// Run the channel's program.
    Run,
    /// Poll the oldest job once.
    Poll,
    /// Wait for all jobs.
    Wait,
    /// Poll an asynchronous wait once, then drop or forget its future.
    Await {
        forget: bool,
    },
    Stop,
    Recover,
    /// End the channel while these moves are in flight. The next step that needs the channel opens it again.
    End {
        how: Disposal,
        faults: EndFaults,
        moves: Vec<Move>,
        credits: bool,
    },
    /// Drop or forget a host buffer, which may be in flight, and allocate another.
    EndBuffer {
        buffer: usize,
        forget: bool,
    },
    /// Drop or forget the program, which may be running.
    EndProgram {
        forget: bool,
    },
    /// Compare the whole region of the pair with the model.
    Check,
    /// Inject a fault that fails the channel, immediately or when it next applies.
    Fail(Kind),
    /// Inject a fault that only delays the channel.
    Disturb(Kind),
    /// Make the registers read all ones for this number of milliseconds.
    AllOnes(u64),
    /// Take the link down, end all channels and the card, bring the link up again, and open the card.
    Link {
        how: Disposal,
    },
    /// End all channels and the card while these moves are in flight on this channel, and open the card again.
    Reopen {
        how: Disposal,
        faults: EndFaults,
        moves: Vec<Move>,
        card_first: bool,
    },
    /// End the card's process, then all handles, and start another card instead.
    ProcessGone {
        how: Disposal,
    },
    /// Try to use a handle of the next card.
    Foreign(ForeignUse),
}

/// One step: an action on a channel of a card, or on its pair or card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    pub card: usize,
    pub pair: usize,
    pub side: Side,
    pub action: Action,
}

/// A card, and the options for opening it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CardSetup {
    pub options: EmulatorOptions,
    /// Whether channels initially use a credits ring, if the card has credits.
    pub credits: bool,
    /// Whether waits sleep until an interrupt.
    pub sleep: bool,
    /// Seed of the card's device addresses.
    pub address_seed: u64,
}

impl CardSetup {
    /// Returns the ring to request for a channel.
    pub fn ring(&self, credits: bool) -> Ring {
        if credits && self.options.card.channels.credits.or(true) { Ring::Credits } else { Ring::Chain }
    }

    pub fn wait(&self) -> Wait {
        if self.sleep { Wait::Hybrid } else { Wait::SpinThenYield }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub cards: Vec<CardSetup>,
    /// Steps refer to cards by index, modulo the number of cards.
    pub steps: Vec<Step>,
}
