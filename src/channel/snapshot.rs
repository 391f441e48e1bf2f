//! The state of a channel at the time of an error: its registers, and its ring in host memory.

use super::options::Ring;
use crate::regs::channel::{Control, Status, WriteBack};
use crate::regs::{Direction, GONE};
use std::fmt;

/// The state of a channel: its registers, and its ring as the driver sees it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::sync::Arc;
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::{EmulatorOptions, logic::Memory};
/// # let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let channel = card.h2c(0)?;
/// let snapshot = channel.snapshot()?;
/// assert_eq!((snapshot.channel, snapshot.completed), (0, 0));
/// assert!(snapshot.to_string().starts_with("H2C channel 0: idle"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Direction of the channel.
    pub direction: Direction,
    /// Number of the channel.
    pub channel: usize,
    /// Status register.
    pub status: Status,
    /// Control register.
    pub control: Control,
    /// Number of descriptors completed since the engine was started.
    pub completed: u32,
    /// Device address of the list that was last written to the engine.
    pub list: u64,
    /// Remaining credits.
    pub credits: u32,
    /// The ring; `None` while the channel is being opened.
    pub ring: Option<RingState>,
}

/// The state of a channel's ring, as the driver sees it. None of it is read from the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingState {
    /// The kind of ring.
    pub ring: Ring,
    /// Number of unfinished transfers and runs.
    pub in_flight: usize,
    /// Number of these with descriptors that have not been posted.
    pub waiting: usize,
    /// Device address of the oldest one's first descriptor.
    pub oldest: Option<u64>,
    /// The engine's count at which the oldest one is finished, if all its descriptors have been posted.
    pub ends_with: Option<u64>,
    /// Number of descriptors posted to the engine; on the credits ring, since Run was set.
    pub posted: u64,
    /// Number of these that are known to be completed.
    pub completed: u64,
    /// Number of slots, which are the ring's descriptors for single transfers.
    pub slots: usize,
    /// Number of free slots.
    pub free: usize,
    /// Device address of the slot that is filled next.
    pub tail: u64,
    /// Device address of the word to which the engine writes its count.
    pub word: u64,
    /// Value of that word.
    pub write_back: WriteBack,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, channel, status, completed, list, credits, .. } = self;
        let busy = if status.contains(Status::BUSY) { "busy" } else { "idle" };
        let run = if self.control.contains(Control::RUN) { "Run set" } else { "Run clear" };
        write!(f, "{direction} channel {channel}: {busy}, {run}, status {:#010x}", status.bits())?;
        for (at, text) in status.explain(*direction).into_iter().enumerate() {
            write!(f, "{}{text}", if at == 0 { " (" } else { "; " })?;
        }
        if status.intersects(Status::errors(*direction)) {
            f.write_str(")")?;
        }
        match self.control.bits() {
            GONE => f.write_str(", and its registers now read all ones")?,
            _ => write!(f, ", {completed} descriptors completed, list at {list:#x}, {credits} credits")?,
        }
        self.ring.as_ref().map_or(Ok(()), |ring| write!(f, "; {ring}"))
    }
}

impl fmt::Display for RingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ring, in_flight, waiting, posted, completed, slots, free, tail, word, write_back, .. } =
            self;
        write!(f, "{ring} ring: {in_flight} in flight")?;
        if *waiting > 0 {
            write!(f, ", {waiting} of them waiting for the engine")?;
        }
        if let Some(oldest) = self.oldest {
            write!(f, ", the oldest at {oldest:#x}")?;
        }
        if let Some(end) = self.ends_with {
            write!(f, " finishes at count {end}")?;
        }
        if *ring == Ring::Credits {
            write!(f, ", {posted} descriptors posted, {completed} completed")?;
        }
        write!(f, ", {free} of {slots} slots free from {tail:#x} on, write-back {}", write_back.count())?;
        if write_back.is_error() {
            f.write_str(" with its error bit")?;
        }
        write!(f, " at {word:#x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> RingState {
        RingState {
            ring: Ring::Credits,
            in_flight: 3,
            waiting: 1,
            oldest: Some(0x1_0000_0040),
            ends_with: Some(4),
            posted: 5,
            completed: 2,
            slots: 256,
            free: 253,
            tail: 0x1_0000_0100,
            word: 0x2_0000_0008,
            write_back: WriteBack(0x8000_0003),
        }
    }

    #[test]
    fn a_snapshot_is_printed_with_all_its_fields() {
        let snapshot = Snapshot {
            direction: Direction::C2H,
            channel: 2,
            status: Status::from_bits_retain(0x80010),
            control: Control::RUN,
            completed: 3,
            list: 0x1_0000_0000,
            credits: 0,
            ring: Some(ring()),
        };
        let text = snapshot.to_string();
        for part in [
            "C2H channel 2: idle, Run set",
            "0x00080010 (a descriptor without",
            "; descriptor fetch refused",
            "3 descriptors completed, list at 0x100000000, 0 credits; credits ring: 3 in flight, 1 of them",
            ", the oldest at 0x100000040 finishes at count 4, 5 descriptors posted, 2 completed, ",
            "253 of 256 slots free from 0x100000100 on, write-back 3 with its error bit at 0x200000008",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(Snapshot { ring: None, ..snapshot }.to_string().ends_with("0 credits"));
    }

    #[test]
    fn an_idle_ring_has_a_short_text() {
        let idle = RingState {
            ring: Ring::Chain,
            in_flight: 0,
            waiting: 0,
            oldest: None,
            ends_with: None,
            free: 256,
            write_back: WriteBack(0),
            ..ring()
        };
        let text =
            "chain ring: 0 in flight, 256 of 256 slots free from 0x100000100 on, write-back 0 at 0x200000008";
        assert_eq!(idle.to_string(), text);
    }
}
