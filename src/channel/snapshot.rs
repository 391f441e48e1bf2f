//! What is known of a channel at the time of an error: its registers, and its ring in host memory.

use super::options::Ring;
use crate::regs::channel::{Control, Status, WriteBack};
use crate::regs::{Direction, GONE};
use std::fmt;

/// A channel at the time of an error: what its registers say, and what the driver knows of its ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Direction of the channel.
    pub direction: Direction,
    /// Its number.
    pub channel: usize,
    /// Status register.
    pub status: Status,
    /// Control register.
    pub control: Control,
    /// Descriptors completed since the engine was started.
    pub completed: u32,
    /// Where the list starts that the engine was last given.
    pub list: u64,
    /// Credits left.
    pub credits: u32,
    /// The ring; there is none yet while a channel is opened.
    pub ring: Option<RingState>,
}

/// A channel's ring, as the driver sees it: nothing of it is read from the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingState {
    /// Which ring it is.
    pub ring: Ring,
    /// Transfers and runs that are not finished.
    pub in_flight: usize,
    /// Of these, those that the engine was not given in full.
    pub waiting: usize,
    /// Where the oldest of them begins: device address of its first descriptor.
    pub oldest: Option<u64>,
    /// The engine's count with which the oldest is finished, if the engine has it in full.
    pub ends_with: Option<u64>,
    /// Descriptors given to the engine; over the credits ring, since Run was set.
    pub given: u64,
    /// Those of them that were seen to be completed.
    pub seen: u64,
    /// Descriptors of the ring for single transfers.
    pub slots: usize,
    /// Of these, those that are free.
    pub free: usize,
    /// Device address of the one that is filled next.
    pub tail: u64,
    /// Device address of the word that the engine writes its count to.
    pub word: u64,
    /// What that word holds.
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
            GONE => f.write_str(", and then its registers read all ones")?,
            _ => write!(f, ", {completed} descriptors completed, list at {list:#x}, {credits} credits")?,
        }
        self.ring.as_ref().map_or(Ok(()), |ring| write!(f, "; {ring}"))
    }
}

impl fmt::Display for RingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ring, in_flight, waiting, given, seen, slots, free, tail, word, write_back, .. } = self;
        write!(f, "{ring} ring: {in_flight} in flight")?;
        if *waiting > 0 {
            write!(f, ", {waiting} of them not yet with the engine")?;
        }
        if let Some(oldest) = self.oldest {
            write!(f, ", the oldest at {oldest:#x}")?;
        }
        if let Some(end) = self.ends_with {
            write!(f, " ends with count {end}")?;
        }
        if *ring == Ring::Credits {
            write!(f, ", {given} descriptors given and {seen} seen completed")?;
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
            given: 5,
            seen: 2,
            slots: 256,
            free: 253,
            tail: 0x1_0000_0100,
            word: 0x2_0000_0008,
            write_back: WriteBack(0x8000_0003),
        }
    }

    #[test]
    fn a_snapshot_explains_itself() {
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
            ", the oldest at 0x100000040 ends with count 4, 5 descriptors given and 2 seen completed, ",
            "253 of 256 slots free from 0x100000100 on, write-back 3 with its error bit at 0x200000008",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(Snapshot { ring: None, ..snapshot }.to_string().ends_with("0 credits"));
    }

    #[test]
    fn a_ring_at_rest_says_little() {
        let rest = RingState {
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
        assert_eq!(rest.to_string(), text);
    }
}
