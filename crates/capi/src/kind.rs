//! Handles, and the kinds of objects that they stand for.
//!
//! A handle is a number in the form of a pointer, which is never dereferenced. It names a slot of the table for its kind, and has the
//! generation of the slot. Tables are static: looking a handle up takes no lock and reads no memory but the slot.
//!
//! | bits | objects that any thread may use ([`shared`](crate::shared)) | objects of one thread ([`owned`](crate::owned)) |
//! |---|---|---|
//! | 3:0 | kind, not 0, so NULL is no handle | the same |
//! | 4 | 0 | 0 |
//! | up to 22, or 14 | slot, from bit 5 on | slot, from bit 5 on |
//! | up to 63 | generation, from bit 23 on | 0 in bits 47:15; generation, from bit 48 on |

use crate::error::Failure;
use crate::status::{
    XDMA_ERROR_FORKED, XDMA_ERROR_HANDLE, XDMA_ERROR_HANDLES, XDMA_ERROR_NULL, XDMA_REMEDY_CLOSE,
    XDMA_REMEDY_CORRECT, XDMA_REMEDY_TRY_AGAIN,
};
use crate::thread;

/// Bits of a handle with its kind.
const KIND_MASK: u64 = 0xf;
/// First bit of the slot.
pub const SLOT_SHIFT: u32 = 5;

/// The kinds of objects. A number is part of each handle of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Card = 1,
    Buffer,
    Channel,
    Program,
    Receiver,
    Interrupt,
    Msm,
    Points,
    Scalars,
    Job,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Card,
        Self::Buffer,
        Self::Channel,
        Self::Program,
        Self::Receiver,
        Self::Interrupt,
        Self::Msm,
        Self::Points,
        Self::Scalars,
        Self::Job,
    ];

    /// Returns the name of the C type, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Buffer => "buffer",
            Self::Channel => "channel",
            Self::Program => "program",
            Self::Receiver => "receiver",
            Self::Interrupt => "interrupt",
            Self::Msm => "msm",
            Self::Points => "points",
            Self::Scalars => "scalars",
            Self::Job => "job",
        }
    }

    pub fn of(handle: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == handle & KIND_MASK)
    }
}

/// Fails in a child process, which cannot open cards.
pub fn check_not_forked() -> Result<(), Failure> {
    if !thread::is_forked() {
        return Ok(());
    }
    let text =
        "this process is a child of the one that opened a card; open cards after `fork`, or call `exec`";
    Err(Failure::new(XDMA_ERROR_FORKED, XDMA_REMEDY_CLOSE, text))
}

/// The error for a table without a free slot.
#[cold]
pub fn full(kind: Kind, slots: usize) -> Failure {
    let text = format!("all {slots} {} handles of this process are in use; close some", kind.name());
    Failure::new(XDMA_ERROR_HANDLES, XDMA_REMEDY_TRY_AGAIN, text)
}

/// The error for a handle that is NULL, of another kind, or not valid.
#[cold]
pub fn not_valid(handle: u64, wanted: Kind) -> Failure {
    let name = wanted.name();
    let (status, text) = match Kind::of(handle) {
        _ if handle == 0 => (XDMA_ERROR_NULL, format!("the {name} handle is NULL; open one first")),
        Some(kind) if kind != wanted => {
            let text = format!("this is a handle of type xdma_{}; pass one of type xdma_{name}", kind.name());
            (XDMA_ERROR_HANDLE, text)
        }
        _ => (XDMA_ERROR_HANDLE, format!("the {name} handle is not valid: it was closed, or was never open")),
    };
    Failure::new(status, XDMA_REMEDY_CORRECT, text)
}
