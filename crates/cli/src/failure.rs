//! The program's own errors, the hints that it adds to the library's errors, and the exit codes.

use crate::card;
use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use vfio_setup::status::{FunctionStatus, Status};
use vfio_setup::{Host, usage};
use xdma::card::{BusError, CardError, PciAddress};
use xdma::channel::stream::{BufferError, ReceiveError};
use xdma::channel::{
    CloseError, EngineError, InvalidTransfer, OpenError, SubmitError, TransferError, WaitError,
};
use xdma::memory::{MapError, MemoryError};
use xdma::msm::MsmOpenError;
use xdma::regs::Direction;
use xdma::stats::{PageError, Reader};
use xdma_emulated_card::{StartError, UnnamedCard};

/// The exit codes of the program. The lines are short, because a manual page of 80 columns does not wrap them.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  success
    1  an error outside the card: a file, a pipe, the terminal
    2  a wrong command line, or a request that no card can fulfil, such
       as an offset that is unaligned or outside the BAR
    3  the card cannot be used: not found, in use, no permission, gone,
       or without the requested channel or design
    4  `write --verify`, `write --receive`: the data that came back
       differs from the data sent
    5  a transfer failed or timed out; the channel is idle again unless
       the message says otherwise
    6  a step of `selftest` failed; the report says what that usually
       means
  130  interrupted by Ctrl-C; the card is idle unless the message says
       otherwise. `emulate`, `top` and `regs --watch` end normally with
       Ctrl-C, and exit with 0";

/// State of an engine that cannot be stopped while its stream does not move.
const BUSY: &str = "The engine still waits for the stream; the next command takes it over once the stream moves or the card is reset";

/// An error that this program detects itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is not valid for this card.
    #[error("{0}")]
    Usage(String),
    /// The data read back differs from the data written.
    #[error(
        "the data read back differs from the data written, first between card addresses {:#x} and {:#x}: there may be no memory \
         at these addresses, or memory that is smaller than its address window{}",
        .0.start, .0.end, .1
    )]
    Mismatch(Range<u64>, &'static str),
    /// The data received from a stream differs from the data sent.
    #[error(
        "the received data differs from the data sent, first between bytes {:#x} and {:#x}: the user logic changes or loses data, \
         or it still held part of a packet from an earlier program, in which case running the command again succeeds. If the user \
         logic answers with other data, use --no-compare", .0.start, .0.end
    )]
    StreamMismatch(Range<u64>),
    /// The packets received from a stream have other lengths than those sent.
    #[error(
        "packet {packet} was sent with {sent} bytes and received with {received} bytes; if the user logic answers with other data, \
         use --no-compare"
    )]
    PacketMismatch { packet: usize, sent: u64, received: u64 },
    /// The stream delivers data before anything was sent.
    #[error(
        "the stream did not go quiet: {bytes} bytes were discarded and more is arriving, so its source is live and cannot be drained; \
         use `read --stream` without --discard, or `write --stream --receive --keep-old`"
    )]
    LiveStream { bytes: u64 },
    /// The thread of the other direction failed; its error is reported instead of this one.
    #[error("the other direction of the stream failed")]
    OtherThread,
    /// Ctrl-C.
    #[error("interrupted; the card is idle")]
    Interrupted,
    /// Ctrl-C, while an engine waits for a stream.
    #[error("interrupted. {BUSY}")]
    InterruptedBusy,
    /// A stream delivered or accepted too little data within the time limit. `busy`: its engine could not be stopped.
    #[error(
        "{} within {limit:?}; check that the other end of the stream is active, or raise --timeout{}",
        if *.direction == Direction::C2H { "no data was received" } else { "not all data was accepted" },
        if *.busy { format!(". {BUSY}") } else { String::new() }
    )]
    StreamTimeout { direction: Direction, limit: Duration, busy: bool },
    /// A transfer timed out, and its engine could not be stopped.
    #[error("{late}. The engine could not be stopped afterwards: {stop}")]
    NotStopped { late: String, stop: String },
    /// An engine of an experiment that cannot be stopped.
    #[error(
        "{direction} channel {index} does not become idle: its user logic or its memory does not respond; reset the card"
    )]
    EngineBusy { direction: Direction, index: usize },
    /// The reader of the output has closed it, which is not an error.
    #[error("the reader of the output has closed it")]
    OutputClosed,
    /// A step of the self-test failed. The report has the details.
    #[error("the self-test stopped at the step `{0}`")]
    SelftestFailed(&'static str),
    /// No program has a card open.
    #[error(
        "no program of this user has a card open; start one, such as `xdma bench` or an example, and try again"
    )]
    NoPrograms,
    /// Programs have cards open, but not the requested one.
    #[error("no program of this user has a card open at `{0}`; cards in use: {1}")]
    NotInUse(String, String),
}

/// Returns the exit code for an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|cause| code(innermost(cause))).unwrap_or(1)
}

/// Returns the text of an error with its causes and a hint. A cause that the text already includes is not repeated.
pub fn text(error: &anyhow::Error) -> String {
    text_about(error, card::address())
}

/// As [`text`], for a card with this PCI address.
fn text_about(error: &anyhow::Error, card: Option<PciAddress>) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let hint = hint(innermost(cause), card).map(|hint| format!("; {hint}"));
        let cause = format!("{cause}{}", hint.unwrap_or_default());
        match text.as_str() {
            "" => text = cause,
            so_far if so_far.contains(&cause) => {}
            so_far => text = format!("{so_far}: {cause}"),
        }
    }
    text
}

/// Returns the innermost error inside `$error` if that is one of these variants.
macro_rules! unwrap_transparent {
    ($error:ident, $($wrapper:ident::$variant:ident),* $(,)?) => {
        $(if let Some($wrapper::$variant(inner)) = $error.downcast_ref() {
            return innermost(inner);
        })*
    };
}

/// Returns the error inside of errors that only pass on its text.
pub fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    unwrap_transparent!(
        error,
        StartError::Card,
        CardError::Bus,
        OpenError::Discard,
        OpenError::Memory,
        OpenError::Engine,
        MsmOpenError::Card,
        MsmOpenError::Bus,
        TransferError::Submit,
        TransferError::Wait,
        SubmitError::Invalid,
        SubmitError::Engine,
        WaitError::Engine,
        ReceiveError::Wait,
        BufferError::Memory,
        BufferError::Engine,
        CloseError::Engine,
    );
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(CloseError::Quarantined { cause, .. }), _) => innermost(cause),
        (_, Some(EngineError::Bus { cause, .. })) => &**cause,
        _ => error,
    }
}

/// Names the processes that have a VFIO node open, as far as this user can see them.
fn users(node: &Path) -> Option<String> {
    let host = Host::new("/");
    let status = Status::read(&host, true).ok()?;
    let has_node = |function: &&FunctionStatus| function.nodes.iter().any(|name| Path::new(name) == node);
    let address = status.functions.iter().find(has_node)?.address.parse().ok()?;
    let uses = usage::of(&host, &host.sysfs().function(address).ok()?).ok()?;
    let users: Vec<_> = uses.certain.iter().map(ToString::to_string).collect();
    (!users.is_empty()).then(|| users.join(", "))
}

/// Names the process that has the card of a socket open, if it is one of this user that uses the library.
fn client(socket: &Path) -> Option<String> {
    let location = socket.display().to_string();
    let page = Reader::all().into_iter().flatten().find(|page| page.location() == location)?;
    Some(format!("process {} has it open", page.process()))
}

/// Returns a remedy that uses this program or `vfio-setup`; the library's own texts mention neither. `card` is the card's PCI address.
fn hint(error: &(dyn Error + 'static), card: Option<PciAddress>) -> Option<String> {
    let fixed = |hint: &str| Some(hint.to_owned());
    let doctor = || fixed("run `vfio-setup doctor` for a diagnosis");
    let reset = || match card.map(|card| format!("/sys/bus/pci/devices/{card}/reset")) {
        Some(file) if Path::new(&file).exists() => {
            Some(format!("to reset the card, run `echo 1 | sudo tee {file}`"))
        }
        Some(_) => None,
        None => fixed("to reset an emulated card, restart it"),
    };
    let bind = || card.map(|card| vfio_setup::bind_command(&Host::new("/"), card));
    let is_node = |path: &Path| path.starts_with("/dev");
    if let Some(error) = error.downcast_ref() {
        return match error {
            BusError::NotBound { address, .. } => {
                Some(format!("run `{}`", vfio_setup::bind_command(&Host::new("/"), *address)))
            }
            BusError::NotFound { path, .. } if !is_node(path) => Some(format!(
                "to serve an emulated card there, run `xdma emulate --socket {}`",
                path.display()
            )),
            BusError::NotFound { .. } | BusError::NoMode { .. } => doctor(),
            BusError::Permission { path, .. } if is_node(path) => doctor(),
            BusError::Taken { path, .. } if is_node(path) => users(path),
            BusError::Taken { path, .. } => client(path),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            EngineError::Failed { .. } | EngineError::Reset { .. } | EngineError::Stopped => {
                fixed("running the command again recovers the channel")
            }
            EngineError::Recalled { .. } => {
                bind().map(|command| format!("to use the card again, run `{command}`"))
            }
            EngineError::Hung { .. } => reset(),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            OpenError::Stream { .. } => fixed("use `read --stream` or `write --stream`"),
            OpenError::NotStream { .. } => fixed(
                "leave out --stream and set --address (an emulated card has streams with --logic loopback)",
            ),
            _ => None,
        };
    }
    match (error.downcast_ref(), error.downcast_ref(), error.downcast_ref()) {
        (Some(WaitError::Deadline { .. }), _, _) => fixed(
            "check that the design answers at this address; `read` and `write` wait longer with --timeout",
        ),
        (_, Some(CardError::Hung { .. }), _) => reset(),
        (_, _, Some(MemoryError::Map(MapError::Locked { .. }))) => {
            fixed("or run `sudo vfio-setup persist`, which raises the limit for logins")
        }
        (_, _, Some(MemoryError::Map(MapError::NeedsHugePages))) => {
            bind().map(|command| format!("or run `{command} --hugepages 2M=64`"))
        }
        _ => None,
    }
}

fn program_code(failure: &Failure) -> u8 {
    match failure {
        Failure::Usage(_) => 2,
        Failure::Mismatch(..) | Failure::StreamMismatch(_) | Failure::PacketMismatch { .. } => 4,
        Failure::Interrupted | Failure::InterruptedBusy => 130,
        Failure::StreamTimeout { .. }
        | Failure::NotStopped { .. }
        | Failure::EngineBusy { .. }
        | Failure::LiveStream { .. }
        | Failure::OtherThread => 5,
        Failure::SelftestFailed(_) => 6,
        Failure::OutputClosed => 0,
        Failure::NoPrograms | Failure::NotInUse(..) => 3,
    }
}

/// Returns the exit code for an innermost error.
fn code(error: &(dyn Error + 'static)) -> Option<u8> {
    if let Some(failure) = error.downcast_ref() {
        return Some(program_code(failure));
    }
    if let Some(error) = error.downcast_ref() {
        return Some(match error {
            EngineError::Gone { .. } | EngineError::Recalled { .. } => 3,
            _ => 5,
        });
    }
    let is_usage = matches!(error.downcast_ref(), Some(BusError::BadOffset { .. }))
        || matches!(error.downcast_ref(), Some(InvalidTransfer::CardAddress { .. }))
        || error.is::<UnnamedCard>();
    let is_unusable = error.is::<BusError>()
        || error.is::<CardError>()
        || error.is::<StartError>()
        || error.is::<OpenError>()
        || error.is::<MsmOpenError>()
        || error.is::<MemoryError>()
        || error.is::<PageError>();
    let is_transfer = error.is::<SubmitError>()
        || error.is::<InvalidTransfer>()
        || error.is::<WaitError>()
        || error.is::<ReceiveError>()
        || error.is::<BufferError>();
    [(is_usage, 2), (is_unusable, 3), (is_transfer, 5)].into_iter().find_map(|(is, code)| is.then_some(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io;
    use std::sync::Arc;

    #[test]
    fn the_exit_code_depends_on_the_cause() {
        let outside = || CardError::Bus(BusError::BadOffset { offset: 3, size: 8 });
        let code = |error: anyhow::Error| exit_code(&error);
        assert_eq!(code(anyhow::Error::new(outside()).context("word 1")), 2);
        let address = || InvalidTransfer::CardAddress { address: 1, len: u64::MAX };
        assert_eq!(code(address().into()), 2);
        assert_eq!(code(TransferError::Submit(address().into()).into()), 2);
        assert_eq!(code(CardError::NoUserBar.into()), 3);
        assert_eq!(code(OpenError::Engine(EngineError::Stopped).into()), 5);
        let gone = EngineError::Gone { direction: Direction::H2C, channel: 0, ring: None };
        assert_eq!(code(TransferError::Wait(WaitError::Engine(gone)).into()), 3);
        let refused =
            EngineError::Bus { cause: Arc::new(BusError::BadOffset { offset: 3, size: 8 }), ring: None };
        assert_eq!(code(WaitError::Engine(refused).into()), 2);
        assert_eq!(code(Failure::Interrupted.into()), 130);
        assert_eq!(code(Failure::Mismatch(0..1, "").into()), 4);
        let missing: anyhow::Result<()> = Err(io::Error::from(io::ErrorKind::NotFound)).context("f");
        assert_eq!(code(missing.unwrap_err()), 1);
    }

    #[test]
    fn the_hint_ends_the_text() {
        let stream = OpenError::Stream { direction: Direction::H2C, channel: 1 };
        let own = stream.to_string();
        let shown = text(&anyhow::Error::new(stream).context("cannot transfer 1 byte"));
        let end = shown.strip_prefix(&format!("cannot transfer 1 byte: {own}; ")).unwrap();
        assert!(end.contains("`write --stream`"), "{shown}");
        // The hint for a nested error appears once.
        let stopped = TransferError::Wait(WaitError::Engine(EngineError::Stopped));
        let shown = text(&stopped.into());
        let end = shown.strip_prefix(&format!("{}; ", EngineError::Stopped)).unwrap();
        assert!(end.starts_with("running the command again"), "{shown}");
        assert_eq!(text(&OpenError::AsFound.into()), OpenError::AsFound.to_string());
    }

    #[test]
    fn hints_name_vfio_setup_and_emulate() {
        let address = "0000:3b:00.0".parse().unwrap();
        let card = CardError::Bus(BusError::NotBound { address, driver: None });
        let shown = text(&anyhow::Error::new(StartError::Card(card)).context("cannot open"));
        assert!(shown.ends_with("run `sudo vfio-setup bind 0000:3b:00.0`"), "{shown}");
        let missing = |path: &str| BusError::NotFound {
            path: path.into(),
            cause: io::Error::from(io::ErrorKind::NotFound),
            remedy: "look".into(),
        };
        assert!(text(&missing("/run/card").into()).contains("xdma emulate --socket /run/card"));
        assert!(text(&missing("/dev/vfio/7").into()).contains("vfio-setup doctor"));
    }

    #[test]
    fn hints_name_the_card() {
        let card: PciAddress = "0000:3b:00.0".parse().unwrap();
        let needs = || anyhow::Error::new(MemoryError::from(MapError::NeedsHugePages));
        let shown = text_about(&needs(), Some(card));
        assert!(shown.ends_with("or run `sudo vfio-setup bind 0000:3b:00.0 --hugepages 2M=64`"), "{shown}");
        assert!(text_about(&needs(), None).ends_with("| sudo tee $f`"));
        let hung = || {
            anyhow::Error::new(CardError::Hung {
                direction: Direction::H2C,
                channel: 1,
                status: 1,
                tried: "",
            })
        };
        assert!(text_about(&hung(), Some(card)).ends_with("or restart the machine"));
        assert!(text_about(&hung(), None).ends_with("restart it"));
    }

    #[test]
    fn causes_are_not_repeated() {
        let source = || io::Error::from(io::ErrorKind::NotFound);
        let named = BusError::NotFound { path: "/card".into(), cause: source(), remedy: "look".into() };
        let shown = text(&anyhow::Error::new(named).context("cannot open"));
        assert_eq!(shown.matches("not found").count(), 1, "{shown}");
        assert!(text(&anyhow::Error::new(source()).context("cannot open")).contains("cannot open: "));
    }
}
