//! The driver's log.

use crate::errors::{Failure, invalid};
use pyo3::prelude::*;
use std::sync::OnceLock;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, registry, reload};

/// Writes the driver's log to standard error from now on: one line for each message up to level, with its time in UTC.
///
/// level is "off", which is the initial level; "error"; "warn", for fallbacks and risks; "info"; "debug", for errors of channels with the
/// state of their rings, opening and closing; or "trace". Lines go to file descriptor 2, not to sys.stderr, since any thread may write
/// them without the GIL.
#[pyfunction]
pub fn log(level: &str) -> Result<(), Failure> {
    static HANDLE: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
    let level = match level {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => {
            let text = format!("`level` is {level:?}; use off, error, warn, info, debug or trace");
            return Err(invalid(text));
        }
    };
    let handle = HANDLE.get_or_init(|| {
        let (filter, handle) = reload::Layer::new(LevelFilter::OFF);
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false);
        registry().with(filter).with(lines).init();
        handle
    });
    handle.reload(level).map_err(|error| invalid(format!("the log cannot be changed: {error}")))
}
