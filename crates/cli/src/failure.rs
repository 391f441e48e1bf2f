//! What can go wrong, and the exit codes.

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use xdma::bus::BusError;
use xdma::card::CardError;
use xdma::channel::EngineError;
use xdma::memory::{MapError, MemoryError};
use xdma::msm::MsmError;
use xdma::regs::Direction;
use xdma::stats::PageError;
use xdma_emulated_card::StartError;

/// The exit codes of the program.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  something else than the card failed: a file, a pipe, the terminal
    2  the command line is wrong, or asks for what no card has: an unaligned offset, one outside the BAR
    3  the card cannot be used: not there, taken, no permission, gone, without such a channel or design
    4  `write --verify`, `write --receive`: the card gave other bytes back than it was given
    5  a transfer failed or took too long; the channel is idle again, or the message says that it is not
  130  interrupted; the card is idle, or the message says that it is not. `emulate`, `top` and `regs --watch` are ended like
       this, with 0";

/// What becomes of an engine that cannot be stopped before its stream goes on.
const BUSY: &str = "its engine still waits for the stream: the next command takes it over, once the stream goes on or the card is reset";

/// What this program finds wrong by itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense for this card.
    #[error("{0}")]
    Usage(String),
    /// What came back is not what was sent.
    #[error(
        "the card gave other bytes back than it was given, first between card addresses {:#x} and {:#x}: nothing but memory \
         gives back what is written, and memory may be smaller than its window{}",
        .0.start, .0.end, .1
    )]
    Mismatch(Range<u64>, &'static str),
    /// What came back over a stream is not what was sent.
    #[error(
        "other bytes came back than were sent, first between bytes {:#x} and {:#x}: the user logic changes or loses some, or had \
         the beginning of a packet of an earlier program, in which case the next command gets what it sends. --no-compare is for \
         user logic that answers something else", .0.start, .0.end
    )]
    OtherBytes(Range<u64>),
    /// What came back over a stream is cut otherwise.
    #[error(
        "packet {packet} was sent with {sent} bytes and came back with {received}; --no-compare is for user logic that answers \
         something else"
    )]
    OtherPacket { packet: usize, sent: u64, received: u64 },
    /// A stream that brings data before anything was sent.
    #[error(
        "the stream did not go quiet: {bytes} bytes were discarded and more is arriving, so its source is live and cannot be drained; \
         use `read --stream` without --discard, or `write --stream --receive --keep-old`"
    )]
    NotQuiet { bytes: u64 },
    /// The other thread failed, and says why.
    #[error("the other end of the stream has failed")]
    Abandoned,
    /// Ctrl-C.
    #[error("interrupted; the card is idle")]
    Interrupted,
    /// Ctrl-C, while an engine waits for a stream.
    #[error("interrupted; {BUSY}")]
    InterruptedBusy,
    /// Nothing came over a stream, or nothing was taken; whether its engine still waits for it.
    #[error(
        "{} within {limit:?}; is there somebody at the other end? --timeout waits longer{}",
        if *.direction == Direction::C2H { "nothing came" } else { "not all was taken" },
        if *.busy { format!(". {BUSY}") } else { String::new() }
    )]
    Silent { direction: Direction, limit: Duration, busy: bool },
    /// A transfer took too long, and its engine cannot be stopped.
    #[error("{late}. The engine then could not be stopped: {after}")]
    LateAndBusy { late: String, after: String },
    /// Whoever read the output has enough of it: no error.
    #[error("nobody reads the output any more")]
    NobodyReads,
    /// There is nothing to show.
    #[error(
        "no program of yours has a card open; start one, such as an example of this project or `xdma bench`, and look again"
    )]
    NothingRuns,
    /// Nothing that runs is meant.
    #[error("no card that a program of yours has open is at `{0}`; there are: {1}")]
    NothingThere(String, String),
}

/// The exit code for an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let code = |cause: &(dyn Error + 'static)| {
        let cause = laid_bare(cause);
        None.or_else(|| cause.downcast_ref().map(of_program))
            .or_else(|| cause.downcast_ref().map(of_engine))
            .or_else(|| cause.downcast_ref().map(of_bus))
            .or_else(|| cause.downcast_ref::<CardError>().map(|_| 3))
            .or_else(|| cause.downcast_ref::<StartError>().map(|_| 3))
            .or_else(|| cause.downcast_ref::<MemoryError>().map(|_| 3))
            .or_else(|| cause.downcast_ref::<MsmError>().map(|_| 3))
            .or_else(|| cause.downcast_ref::<PageError>().map(|_| 3))
    };
    error.chain().find_map(code).unwrap_or(1)
}

/// What went wrong and why. Causes that a sentence names already are not named again.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = sentence(laid_bare(cause));
        match text.as_str() {
            "" => text = cause,
            said if said.contains(&cause) => {}
            said => text = format!("{said}: {cause}"),
        }
    }
    text
}

/// Unwraps errors whose wrappers add no text.
fn laid_bare<'a>(mut cause: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    loop {
        cause = match (cause.downcast_ref(), cause.downcast_ref()) {
            (Some(StartError::Card(error)), _) => error,
            (_, Some(CardError::Bus(error))) => error,
            (_, Some(CardError::Engine(error))) => error,
            (_, Some(CardError::Memory(error))) => error,
            _ => return cause,
        }
    }
}

/// A cause, with what is to be done about it by somebody who has this program and not the library.
fn sentence(cause: &(dyn Error + 'static)) -> String {
    let text = cause.downcast_ref().and_then(remedy).unwrap_or_else(|| cause.to_string());
    match hint(cause) {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

/// The command of this program or of `vfio-setup` that helps; the library names neither.
fn hint(cause: &(dyn Error + 'static)) -> Option<String> {
    const DOCTOR: &str = "`vfio-setup doctor` says what to type";
    let is_node = |path: &Path| path.starts_with("/dev");
    match cause.downcast_ref() {
        Some(MemoryError::Map(MapError::Locked { .. })) => {
            return Some("`sudo vfio-setup persist` raises it".into());
        }
        Some(MemoryError::Map(MapError::NeedsHugePages)) => {
            return Some("or type: sudo vfio-setup bind --hugepages 2M=64".into());
        }
        _ => {}
    }
    match cause.downcast_ref()? {
        BusError::NotBound { address, .. } => Some(format!("type: sudo vfio-setup bind {address}")),
        BusError::NotFound { path, .. } if !is_node(path) => {
            Some(format!("`xdma emulate --socket {}` serves an emulated card", path.display()))
        }
        BusError::NotFound { .. } | BusError::NoMode { .. } => Some(DOCTOR.into()),
        BusError::Permission { path, .. } if is_node(path) => Some(DOCTOR.into()),
        _ => None,
    }
}

/// What the library says to programs, for people.
fn remedy(error: &EngineError) -> Option<String> {
    Some(match error {
        EngineError::Deadline { waited, snapshot } => format!(
            "not finished within {waited:?}; does the design answer at this address? `read` and `write` wait longer with \
             --timeout. {snapshot}"
        ),
        EngineError::Failed { snapshot } => format!(
            "the engine stopped with an error; mend its cause and type the command again, which starts the engine anew. \
             {snapshot}"
        ),
        EngineError::Stream { direction, channel } => {
            format!(
                "{direction} channel {channel} is an AXI-Stream one; `read --stream` and `write --stream` use those"
            )
        }
        EngineError::NotStream { direction, channel } => {
            format!(
                "{direction} channel {channel} is a memory-mapped one; leave out --stream, and name an --address (an emulated \
                 card has streams with --logic loopback)"
            )
        }
        EngineError::Reset { ring } => {
            format!("the card was reset meanwhile, and the transfer is lost; type the command again. {ring}")
        }
        EngineError::Recalled { ring } => {
            format!(
                "the kernel wants the card back (it is being unbound or removed), and has it now; bind it again to go on. {ring}"
            )
        }
        EngineError::Hung { snapshot } => format!(
            "the engine does not become idle; reset the card (as root: echo 1 > /sys/bus/pci/devices/ADDRESS/reset), or start \
             an emulated one again. {snapshot}"
        ),
        _ => return None,
    })
}

fn of_program(failure: &Failure) -> u8 {
    match failure {
        Failure::Usage(_) => 2,
        Failure::Mismatch(..) | Failure::OtherBytes(_) | Failure::OtherPacket { .. } => 4,
        Failure::Interrupted | Failure::InterruptedBusy => 130,
        Failure::Silent { .. }
        | Failure::LateAndBusy { .. }
        | Failure::NotQuiet { .. }
        | Failure::Abandoned => 5,
        Failure::NobodyReads => 0,
        Failure::NothingRuns | Failure::NothingThere(..) => 3,
    }
}

fn of_engine(error: &EngineError) -> u8 {
    match error {
        EngineError::CardAddress { .. } => 2,
        EngineError::Bus { cause, .. } => of_bus(cause),
        EngineError::NoChannel { .. }
        | EngineError::Stream { .. }
        | EngineError::NotStream { .. }
        | EngineError::Gone { .. }
        | EngineError::Recalled { .. } => 3,
        _ => 5,
    }
}

fn of_bus(error: &BusError) -> u8 {
    if matches!(error, BusError::BadOffset { .. }) { 2 } else { 3 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io;

    #[test]
    fn the_cause_decides_whatever_was_said_about_it() {
        let outside = || CardError::Bus(BusError::BadOffset { offset: 3, size: 8 });
        let code = |error: anyhow::Error| exit_code(&error);
        assert_eq!(code(anyhow::Error::new(outside()).context("word 1")), 2);
        assert_eq!(code(EngineError::CardAddress { address: 1, len: u64::MAX }.into()), 2);
        assert_eq!(code(CardError::NoUserBar.into()), 3);
        assert_eq!(code(CardError::Engine(EngineError::Stopped).into()), 5);
        assert_eq!(code(Failure::Interrupted.into()), 130);
        assert_eq!(code(Failure::Mismatch(0..1, "").into()), 4);
        let missing: anyhow::Result<()> = Err(io::Error::from(io::ErrorKind::NotFound)).context("f");
        assert_eq!(code(missing.unwrap_err()), 1);
    }

    #[test]
    fn nobody_is_sent_to_the_library() {
        let stream = EngineError::Stream { direction: xdma::regs::Direction::H2C, channel: 1 };
        let of_card = anyhow::Error::new(CardError::Engine(stream.clone())).context("cannot move 1 byte");
        let shown = text(&of_card);
        assert!(shown.starts_with("cannot move 1 byte: H2C channel 1 is an AXI-Stream one"), "{shown}");
        assert!(shown.contains("`write --stream`") && !shown.contains("Card::"), "{shown}");
        assert_eq!(text(&stream.into()).matches("AXI-Stream").count(), 1);
        assert_eq!(text(&EngineError::Stopped.into()), EngineError::Stopped.to_string());
    }

    #[test]
    fn the_companion_is_named_where_it_helps() {
        let address = "0000:3b:00.0".parse().unwrap();
        let card = CardError::Bus(BusError::NotBound { address, driver: None });
        let shown = text(&anyhow::Error::new(StartError::Card(card)).context("cannot open"));
        assert!(shown.ends_with("type: sudo vfio-setup bind 0000:3b:00.0"), "{shown}");
        let missing = |path: &str| BusError::NotFound {
            path: path.into(),
            cause: io::Error::from(io::ErrorKind::NotFound),
            remedy: "look".into(),
        };
        assert!(text(&missing("/run/card").into()).contains("xdma emulate --socket /run/card"));
        assert!(text(&missing("/dev/vfio/7").into()).contains("vfio-setup doctor"));
    }

    #[test]
    fn no_cause_is_named_twice() {
        let source = || io::Error::from(io::ErrorKind::NotFound);
        let named = BusError::NotFound { path: "/card".into(), cause: source(), remedy: "look".into() };
        let shown = text(&anyhow::Error::new(named).context("cannot open"));
        assert_eq!(shown.matches("not found").count(), 1, "{shown}");
        assert!(text(&anyhow::Error::new(source()).context("cannot open")).contains("cannot open: "));
    }
}
