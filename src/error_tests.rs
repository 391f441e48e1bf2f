//! Tests of all public error types: each text names a cause and gives advice, and `remedy()` returns that advice.

use crate::Remedy;
use crate::bus::BusError;
use crate::card::{CardError, InterruptError, Source};
use crate::channel::stream::{BufferError, ReceiveError};
use crate::channel::{
    CloseError, EngineError, InvalidTransfer, OpenError, PollError, PoolError, ProgramError, Ring, RingState,
    ScopeError, Snapshot, SubmitError, TransferError, WaitError,
};
use crate::memory::{Access, MapError, MemoryError, PageSize};
use crate::msm::curve::CurveError;
use crate::msm::{DataError, DesignError, DesignState, JobError, MsmOpenError, MsmSubmitError, PrepareError};
use crate::regs::Direction::{C2H, H2C};
use crate::regs::channel::{Control, Status, WriteBack};
use crate::regs::msm as regs;
use std::io;
use std::time::Duration;

fn ring() -> RingState {
    RingState {
        ring: Ring::Chain,
        in_flight: 1,
        waiting: 0,
        oldest: None,
        ends_with: None,
        posted: 1,
        completed: 0,
        slots: 256,
        free: 255,
        tail: 0x1020,
        word: 0x2000,
        write_back: WriteBack(0),
    }
}

fn snapshot() -> Snapshot {
    let (status, control) = (Status::BUSY | Status::READ_ERROR_0, Control::RUN);
    Snapshot {
        direction: H2C,
        channel: 0,
        status,
        control,
        completed: 0,
        list: 0,
        credits: 0,
        ring: Some(ring()),
    }
}

fn state() -> DesignState {
    let (status, errors) = (regs::Status::empty(), regs::Errors::empty());
    DesignState { status, errors, scalars: 0, points: 0, pairs_left: 8, depths: (1024, 1024) }
}

fn refused() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOMEM)
}

/// A text is one or more sentences without a final period. None of them is empty, and none occurs twice.
fn check_text(text: &str) {
    assert!(text.len() > 20 && !text.contains("  "), "{text}");
    assert!(text.ends_with(|last: char| last.is_alphanumeric() || matches!(last, ')' | '`')), "{text}");
    let mut parts: Vec<_> = text.split("; ").flat_map(|part| part.split(". ")).collect();
    assert!(parts.iter().all(|part| part.len() > 3 && !part.ends_with([';', '.'])), "{text}");
    parts.sort_unstable();
    assert!(parts.windows(2).all(|pair| pair[0] != pair[1]), "{text}");
}

/// Checks that each error's remedy is the one named, and that its text contains the advice.
macro_rules! check {
    ($($remedy:ident $advice:literal: $($error:expr),+;)+) => {$($({
        let (error, text) = ($error, $error.to_string());
        check_text(&text);
        assert_eq!(error.remedy(), Remedy::$remedy, "{text}");
        assert!(text.contains($advice), "no `{}` in: {text}", $advice);
    })+)+};
}

#[test]
fn engine_errors() {
    let boxed = || Box::new(ring());
    let gone = || EngineError::Gone { direction: C2H, channel: 2, ring: None };
    let bus = |ring| EngineError::Bus { cause: BusError::NoBar(3).into(), ring };
    check! {
        Recover "recover the channel": EngineError::Failed { snapshot: snapshot().into() }, EngineError::Stopped,
            EngineError::Reset { ring: boxed() }, OpenError::from(EngineError::Stopped),
            SubmitError::from(EngineError::Stopped), PollError::from(EngineError::Stopped),
            WaitError::from(PollError::from(EngineError::Stopped)), TransferError::from(EngineError::Stopped),
            ReceiveError::from(EngineError::Stopped), BufferError::from(EngineError::Stopped),
            CloseError::from(EngineError::Stopped), DesignError::from(EngineError::Stopped),
            JobError::from(EngineError::Stopped);
        Reset "reset the card": EngineError::Hung { snapshot: snapshot().into() };
        Close "close the card": EngineError::Recalled { ring: boxed() };
        Reopen "open it again": gone(), EngineError::Gone { direction: C2H, channel: 2, ring: Some(boxed()) };
        Unsupported "no BAR 3": bus(None), bus(Some(boxed()));
        Reset "stay allocated": CloseError::Quarantined {
            bytes: 4096,
            cause: EngineError::Hung { snapshot: snapshot().into() },
        };
    }
}

#[test]
fn an_engine_error_is_found_inside_other_errors() {
    let stopped = || EngineError::Stopped;
    for found in [
        OpenError::from(stopped()).engine(),
        OpenError::from(ReceiveError::from(stopped())).engine(),
        SubmitError::from(stopped()).engine(),
        PollError::from(stopped()).engine(),
        WaitError::from(stopped()).engine(),
        TransferError::from(stopped()).engine(),
        ScopeError::from(WaitError::from(stopped())).engine(),
        ReceiveError::from(stopped()).engine(),
        BufferError::from(stopped()).engine(),
        Some(CloseError::from(stopped()).engine()),
        MsmOpenError::from(OpenError::from(stopped())).engine(),
        MsmSubmitError::from(SubmitError::from(stopped())).engine(),
        DesignError::from(stopped()).engine(),
        JobError::from(stopped()).engine(),
    ] {
        assert!(matches!(found, Some(EngineError::Stopped)), "{found:?}");
    }
}

#[test]
fn channel_errors() {
    let (direction, channel, page) = (H2C, 1, PageSize::Base);
    check! {
        Correct "without `as_found`": OpenError::AsFound;
        Correct "0 to 3": OpenError::BadNumber { direction, channel: 4 };
        TryAgain "close it first": OpenError::Taken { direction, channel };
        Unsupported "no H2C channel 1": OpenError::NoChannel { direction, channel, identifier: 0 };
        Unsupported "open it as a stream": OpenError::Stream { direction, channel };
        Unsupported "do not open it as a stream": OpenError::NotStream { direction, channel };
        Unsupported "use the chain ring": OpenError::NoCredits { direction, channel };
        Correct "1 to": OpenError::BadBuffers { buffers: 0, bytes: 64 };
        Correct "use smaller buffers": OpenError::ScatteredBuffer { bytes: 1 << 20, page };
        Correct "recycle a buffer": OpenError::from(ReceiveError::NoBuffers), ReceiveError::NoBuffers;
        Correct "exceed": InvalidTransfer::CardAddress { address: u64::MAX, len: 2 };
        Correct "allocate or register": InvalidTransfer::WrongAccess { direction, has: Access::CardWrites },
            InvalidTransfer::ForeignMemory, SubmitError::from(InvalidTransfer::ForeignMemory),
            ProgramError::from(InvalidTransfer::ForeignMemory);
        Correct "at least one byte": InvalidTransfer::from(MemoryError::Empty), OpenError::from(MemoryError::Empty),
            ProgramError::from(MemoryError::Empty), BufferError::from(MemoryError::Empty);
        TryAgain "then try again": SubmitError::Full { needed: 2, free: 1 },
            TransferError::from(SubmitError::Full { needed: 2, free: 1 });
        Correct "split the transfer": SubmitError::TooLarge { needed: 513, ring: 512 };
        Correct "add a transfer": SubmitError::Empty, ProgramError::Empty;
        Correct "separate them": SubmitError::Overlap { address: 4096 }, ProgramError::Overlap { address: 4096 };
        Correct "build it on the channel": SubmitError::WrongChannel;
        Correct "several programs": ProgramError::TooLarge { needed: 1 << 25, most: 1 << 24 },
            ProgramError::ScatteredList { descriptors: 200, page };
        Correct "build a list": ProgramError::WrongDirection(H2C);
        Correct "that issued it": PollError::ForeignTicket, WaitError::from(PollError::ForeignTicket);
        Correct "no longer known": PollError::TooOld, WaitError::from(PollError::TooOld);
        WaitAgain "wait again": WaitError::Deadline { waited: Duration::from_secs(1), snapshot: snapshot().into() };
        Correct "wait by polling": WaitError::NoInterrupt;
        PrepareHost "cannot sleep": WaitError::Sleep(refused());
        Recover "recover the channel": ReceiveError::NoMetadata {
            channel: 0,
            status: 0,
            length: 0,
            snapshot: snapshot().into(),
        };
        Correct "that returned it": BufferError::ForeignBuffer;
        Correct "of one direction": PoolError;
        Correct "by polling": ScopeError::from(WaitError::NoInterrupt);
    }
}

#[test]
fn card_and_memory_errors() {
    let (page, len, direction) = (PageSize::Huge2M, 4096, H2C);
    check! {
        PrepareHost "statistics": CardError::Statistics(refused());
        Unsupported "no XDMA registers": CardError::NotXdma { vendor: 1, device: 2, reason: "no BAR has them".into() };
        Reopen "open it again": CardError::Gone { what: "the vendor ID" };
        Reopen "load the image again": CardError::ShellTimeout;
        Reset "reset": CardError::NotCutOff,
            CardError::Hung { direction, channel: 0, status: 1, tried: "not even after a reset" };
        Correct "without `as_found`": CardError::AsFound;
        Correct "cannot be the user BAR": CardError::UserBarHasRegisters(2);
        Unsupported "user logic": CardError::NoUserBar, InterruptError::from(CardError::NoUserBar);
        Unsupported "poll instead": InterruptError::NoVectors;
        Correct "0 to 15": InterruptError::NoSource(Source::User(16));
        Unsupported "no BAR 3": CardError::from(BusError::NoBar(3)), InterruptError::from(BusError::NoBar(3));
        PrepareHost "`ulimit -n`": CardError::from(BusError::Refused {
            what: "an eventfd",
            cause: io::Error::from_raw_os_error(libc::EMFILE),
        });
        TryAgain "resetting": CardError::from(BusError::Refused {
            what: "resetting the card",
            cause: io::Error::from_raw_os_error(libc::EAGAIN),
        });
        PrepareHost "refused": MapError::Refused { iova: 0, len, cause: refused() };
        Correct "allocate it from the card": MapError::NotShareable;
        PrepareHost "raise it": MapError::Locked { len, limit: 64 << 10, source: refused() };
        Correct "larger buffers": MapError::TooMany { source: refused() };
        PrepareHost "sudo tee": MapError::NeedsHugePages, MemoryError::from(MapError::NeedsHugePages);
        PrepareHost "physical address": MapError::NoPhysical { reason: "pagemap is hidden".into() };
        Reopen "lost": MapError::Gone("the socket was closed".into());
        Correct "at least one byte": MemoryError::Empty;
        PrepareHost "reserve hugepages": MemoryError::Allocate { len, page, cause: refused() };
        PrepareHost "raise the limit": MemoryError::Exhausted { len, available: 0, limit: "this machine".into() };
        Correct "release buffers": MemoryError::NoAddresses { len };
        Correct "outside": MemoryError::OutOfRange { start: 0, end: 8, len: 4 };
        Correct "multiple of 8": MemoryError::Unaligned { offset: 4, align: 8 };
        TryAgain "wait for": MemoryError::InFlight(2);
        Correct "another": MemoryError::Quarantined;
        Correct "allocate": MemoryError::WrongAccess { has: Access::CardReads, remedy: "allocate it for C2H" };
    }
}

#[test]
fn msm_errors() {
    let (label, pairs, max, waited) = (7, 8, 1 << 20, Duration::from_secs(1));
    let many = u64::MAX;
    check! {
        Unsupported "load": MsmOpenError::NotMsm { what: "the image identifier", value: 0, expected: 1 },
            MsmOpenError::OtherCurve(2);
        Reopen "open it again": MsmOpenError::Gone, DesignError::Gone, JobError::Gone, JobError::from(DesignError::Gone);
        Correct "at most 1024": MsmOpenError::Deadlock { chunk: 2048, depth: 1024 };
        Correct "an even number": MsmOpenError::OddChunk { chunk: 3 };
        Correct "without `as_found`": MsmOpenError::from(CardError::AsFound), MsmOpenError::from(OpenError::AsFound);
        Correct "0 to 15": MsmOpenError::from(InterruptError::NoSource(Source::User(16)));
        Correct "at least one byte": MsmOpenError::from(MemoryError::Empty), DataError::from(MemoryError::Empty);
        Unsupported "no BAR 3": MsmOpenError::from(BusError::NoBar(3)), MsmSubmitError::from(BusError::NoBar(3)),
            DesignError::from(BusError::NoBar(3)), JobError::from(BusError::NoBar(3));
        Correct "pass whole points": DataError::Size { what: "points", len: 63, size: 64 };
        Correct "allocate elements": DataError::Registered;
        Correct "outside": DataError::OutOfRange { what: "points", start: 0, end: 9, len: 8 };
        Correct "even scalar": DataError::SplitBeat { start: 1 };
        Correct "reduce it": DataError::from(CurveError::ScalarTooLarge { index: 0 });
        Correct "allocate or register": DataError::from(InvalidTransfer::ForeignMemory);
        Correct "allocate or register": PrepareError::from(ProgramError::from(InvalidTransfer::ForeignMemory));
        Correct "as many points": PrepareError::Counts { points: 1, scalars: 2 };
        Correct "split the MSM": PrepareError::TooMany { pairs: many, max }, MsmSubmitError::TooMany { pairs: many, max };
        Correct "allocate elements": PrepareError::from(DataError::Registered);
        Correct "add a transfer": PrepareError::from(ProgramError::Empty), MsmSubmitError::from(SubmitError::Empty);
        TryAgain "then try again": MsmSubmitError::Busy { running: 2, capacity: 2 };
        WaitAgain "wait again": JobError::Deadline { label, pairs, waited, state: state().into(), channel: None },
            JobError::Deadline { label, pairs, waited, state: state().into(), channel: Some(snapshot().into()) };
        Recover "recover the client": JobError::WrongLabel { expected: 1, label }, JobError::Design(regs::Errors::OVERRUN);
        Recover "submit it again": JobError::Lost, JobError::Interrupted {
            label,
            pairs,
            taken: 2,
            chunks: 1,
            cause: Box::new(JobError::Design(regs::Errors::OVERRUN)),
        };
        Correct "latest 1024": JobError::NoResult;
        Correct "that issued it": JobError::ForeignTicket, JobError::from(PollError::ForeignTicket);
    }
    for error in [
        CurveError::BufferSize { what: "scalars", count: 1, expected: 32, actual: 31 },
        CurveError::ScalarTooLarge { index: 1 },
        CurveError::CoordinateTooLarge { index: 1, coordinate: 'x' },
        CurveError::NotOnCurve { index: 1 },
        CurveError::ResultTooLarge { coordinate: 'X' },
        CurveError::ResultNotOnCurve,
    ] {
        check_text(&error.to_string());
        assert_eq!(error.remedy(), Remedy::Correct);
    }
}
