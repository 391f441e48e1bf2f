//! The driver's errors as exceptions of `xdma._errors`, where each remedy has a class.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::error::Error;
use xdma::Remedy;
use xdma::card::{BusError, CardError, InterruptError};
use xdma::channel::stream::{BufferError, ReceiveError};
use xdma::channel::{
    CloseError, EngineError, InvalidTransfer, OpenError, PollError, ProgramError, SubmitError, WaitError,
};
use xdma::memory::MemoryError;
use xdma::msm::{DataError, DesignError, JobError, MsmOpenError, MsmSubmitError, PrepareError};
use xdma_emulated_card::{ParseCardError, StartError, UnnamedCard};

/// Why a call fails.
#[derive(Debug)]
pub enum Failure {
    /// An exception that Python code raised, or that concerns the arguments.
    Python(PyErr),
    /// The name of the exception's class, and its text.
    Driver(&'static str, String),
}

impl Failure {
    /// An error with all of its causes.
    #[cold]
    fn of(class: &'static str, error: &dyn Error) -> Self {
        let (mut text, mut cause) = (error.to_string(), error.source());
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::Driver(class, text)
    }
}

/// An invalid value of an argument.
#[cold]
pub fn invalid(text: impl Into<String>) -> Failure {
    Failure::Driver("ArgumentError", text.into())
}

#[cold]
pub fn closed(what: &str) -> Failure {
    Failure::Driver("ClosedError", format!("the {what} is closed; open or allocate another one"))
}

#[cold]
pub fn lent(what: &str) -> Failure {
    let text = format!(
        "the {what} is in use by the call that runs this function; use it when that call has returned"
    );
    Failure::Driver("BusyError", text)
}

#[cold]
pub fn views(text: impl Into<String>) -> Failure {
    Failure::Driver("BufferError", text.into())
}

#[cold]
pub fn forked(what: &str) -> Failure {
    let text = format!(
        "the {what} belongs to the process that opened it, and this process was forked from that one; open the card here"
    );
    Failure::Driver("ForkedError", text)
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<Failure> for PyErr {
    #[cold]
    fn from(failure: Failure) -> Self {
        let (class, text) = match failure {
            Failure::Python(error) => return error,
            Failure::Driver(class, text) => (class, text),
        };
        let exception = Python::try_attach(|py| {
            let class = CLASSES.get(py)?.bind(py).get_item(class).ok()??;
            // It may fail with the exception of a signal handler.
            Some(class.call1((text.as_str(),)).map_or_else(|error| error, PyErr::from_value))
        });
        exception.flatten().unwrap_or_else(|| PyRuntimeError::new_err(text))
    }
}

/// The classes of exceptions by name. They are kept here, because the interpreter clears modules before other objects when it ends.
static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// Imports the classes of exceptions.
pub fn import(py: Python<'_>) -> PyResult<()> {
    let classes = py.import("xdma._errors")?.dict().copy()?.unbind();
    CLASSES.get_or_init(py, || classes);
    Ok(())
}

/// The class for errors of which only the remedy matters.
fn class_of(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::TryAgain => "BusyError",
        Remedy::WaitAgain => "TimeoutError",
        Remedy::Recover => "EngineError",
        Remedy::Reset => "HungError",
        Remedy::Reopen => "GoneError",
        Remedy::Close => "RecalledError",
        Remedy::PrepareHost => "HostError",
        Remedy::Unsupported => "UnsupportedError",
        // `Correct`, and any remedy that is added later.
        _ => "ArgumentError",
    }
}

macro_rules! by_remedy {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            #[cold]
            fn from(error: $error) -> Self {
                Self::of(class_of(error.remedy()), &error)
            }
        }
    )*};
}

by_remedy!(
    CloseError,
    DataError,
    DesignError,
    EngineError,
    InterruptError,
    InvalidTransfer,
    JobError,
    MsmOpenError,
    MsmSubmitError,
    OpenError,
    PollError,
    PrepareError,
    ProgramError,
    ReceiveError,
    SubmitError,
    WaitError,
    BufferError,
);

impl From<BusError> for Failure {
    #[cold]
    fn from(error: BusError) -> Self {
        let class = match &error {
            BusError::NotFound { .. } => "NotFoundError",
            BusError::Permission { .. } => "PermissionError",
            error => class_of(error.remedy()),
        };
        Self::of(class, &error)
    }
}

impl From<CardError> for Failure {
    #[cold]
    fn from(error: CardError) -> Self {
        match error {
            CardError::Bus(error) => error.into(),
            error => Self::of(class_of(error.remedy()), &error),
        }
    }
}

impl From<MemoryError> for Failure {
    #[cold]
    fn from(error: MemoryError) -> Self {
        let class = match error.remedy() {
            Remedy::PrepareHost => "MemoryError",
            remedy => class_of(remedy),
        };
        Self::of(class, &error)
    }
}

impl From<StartError> for Failure {
    #[cold]
    fn from(error: StartError) -> Self {
        match error {
            StartError::Card(error) => error.into(),
            error => Self::of("HostError", &error),
        }
    }
}

impl From<ParseCardError> for Failure {
    #[cold]
    fn from(error: ParseCardError) -> Self {
        Self::of("ArgumentError", &error)
    }
}

impl From<UnnamedCard> for Failure {
    #[cold]
    fn from(error: UnnamedCard) -> Self {
        // The library's text names the option of a tool.
        let text = error.to_string().replace(" with --card", " as the first argument of Card.open");
        Self::Driver("ArgumentError", text)
    }
}

/// The kernel's error in a wait that sleeps.
impl From<std::io::Error> for Failure {
    #[cold]
    fn from(error: std::io::Error) -> Self {
        Self::of("HostError", &error)
    }
}
