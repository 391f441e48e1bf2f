//! What is done to the cards of a process: plans of steps, as they are printed to be replayed.

use serde::{Deserialize, Serialize};
use xdma::channel::{Ring, Wait};
use xdma_emulator::Options;
use xdma_emulator::faults::Kind;

/// Pairs of an H2C and a C2H channel of each card, each with a region of the card for itself.
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

impl Side {
    pub fn other(self) -> Self {
        if self == Self::H2C { Self::C2H } else { Self::H2C }
    }
}

/// How a handle goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// By its own method, which reports errors.
    Close,
    Drop,
    /// `mem::forget`: what it owns stays taken for the life of the process.
    Forget,
}

/// Faults under which something ends.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Under {
    /// For how many milliseconds the registers read all ones.
    pub all_ones: Option<u64>,
    /// For how many milliseconds the AXI side hangs.
    pub hang: Option<u64>,
    /// For how many milliseconds the engine looks busy.
    pub busy: Option<u64>,
}

/// What is tried with another card's things; each must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Foreign {
    /// Submit a buffer.
    Memory,
    /// Start a list of transfers.
    List,
    /// Build a program.
    Build,
    /// Run a program.
    Program,
    /// Poll a ticket, and wait for it.
    Ticket,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Write a host buffer of the H2C channel.
    Fill {
        buffer: usize,
        at: u64,
        len: u64,
        seed: u64,
    },
    /// Start transfers as one.
    Submit(Vec<Move>),
    /// Build the channel's program.
    Build(Vec<Move>),
    /// Run it.
    Run,
    /// Look once at the oldest that is in flight.
    Poll,
    /// Wait for all that is in flight.
    Wait,
    /// Begin to wait in a task, and drop or forget the future.
    Await {
        forget: bool,
    },
    Stop,
    Recover,
    /// End the channel while these moves are in flight; the next step that needs it opens it again.
    End {
        how: End,
        under: Under,
        moves: Vec<Move>,
        credits: bool,
    },
    /// Drop or forget a host buffer, in flight or not, and take another.
    EndBuffer {
        buffer: usize,
        forget: bool,
    },
    /// Drop or forget the program, running or not.
    EndProgram {
        forget: bool,
    },
    /// Read all of the pair's region, and compare.
    Check,
    /// Something goes wrong that fails the channel, now or at the next occasion.
    Fail(Kind),
    /// Something goes wrong that nobody may notice but by the time it takes.
    Disturb(Kind),
    /// The registers read all ones for so many milliseconds.
    AllOnes(u64),
    /// The link goes down; all channels and the card end; the link comes back, and the card is opened.
    Link {
        how: End,
    },
    /// All channels and the card end while this channel has moves in flight, and the card is opened again.
    Reopen {
        how: End,
        under: Under,
        moves: Vec<Move>,
        card_first: bool,
    },
    /// The card's process ends, then all handles; another card takes its place.
    ProcessGone {
        how: End,
    },
    /// Use something of the next card.
    Foreign(Foreign),
}

/// What happens to a channel of a card; some actions concern its pair or its card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    pub card: usize,
    pub pair: usize,
    pub side: Side,
    pub action: Action,
}

/// A card and how it is opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    pub options: Options,
    /// Rings at the start: chain, or credits where there are any.
    pub credits: bool,
    /// Wait with interrupts.
    pub sleep: bool,
    /// Decides its device addresses.
    pub address_seed: u64,
}

impl Setup {
    /// The ring to ask for.
    pub fn ring(&self, credits: bool) -> Ring {
        if credits && self.options.switches.mm_credits { Ring::Credits } else { Ring::Chain }
    }

    pub fn wait(&self) -> Wait {
        if self.sleep { Wait::Hybrid } else { Wait::default() }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub cards: Vec<Setup>,
    /// Steps name a card by its number, modulo how many there are.
    pub steps: Vec<Step>,
}
