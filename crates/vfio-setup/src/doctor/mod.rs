//! Checks everything that can prevent the library from opening a card as this user, and suggests remedies.

mod function;
mod host;
mod process;
mod remedy;

use super::accounts::Identity;
use super::mode::{self, Mode, UnknownMode};
use super::presence::Presence;
use super::{Host, Refusal, SetupError, select};
use serde::Serialize;
use std::error::Error;
use xdma::card::{CardName, CardOptions, PciAddress};
use xdma::unstable::bus::sysfs::Function;

/// Options of `doctor`.
#[derive(Clone, Debug)]
pub struct DoctorOptions {
    /// Number of bytes that the card needs to access at one time.
    pub memory: u64,
    /// Index of the BAR with the XDMA registers; detected if `None`.
    pub register_bar: Option<usize>,
    /// Mode that `XDMA_VFIO` requests ([`Mode::from_environment`]), or the error if its value is not a mode.
    pub mode: Option<Result<Mode, UnknownMode>>,
}

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No problem.
    Good,
    /// The card can be used, with a limitation or risk.
    Note,
    /// A problem that prevents use of the card.
    Bad,
    /// Not checked.
    Skipped,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Name of the check.
    pub name: &'static str,
    /// Result.
    pub verdict: Verdict,
    /// The finding.
    pub found: String,
    /// The remedy, usually a command.
    pub remedy: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Good, found: found.into(), remedy: None }
    }

    fn note(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Note, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn bad(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Bad, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Skipped, found: why.into(), remedy: None }
    }
}

/// All checks of a function, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The function, or `host`.
    pub address: String,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Returns whether there is no problem that prevents use of the card.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Bad)
    }
}

/// The input of the checks.
struct Context<'a> {
    host: &'a Host,
    function: Function,
    options: &'a DoctorOptions,
    identity: Identity,
    /// Mode in which the library would open the card, if any.
    mode: Option<Mode>,
    /// How the function answers.
    presence: Presence,
}

/// Returns the addresses of the XDMA cards of a host, which may have none.
///
/// # Errors
///
/// Sysfs cannot be read.
pub fn cards(host: &Host) -> Result<Vec<PciAddress>, SetupError> {
    // The files of a system that is not running have no /sys.
    if !host.path("sys/bus/pci/devices").is_dir() {
        return Ok(Vec::new());
    }
    match select::functions(host, &[], false) {
        Err(SetupError::Refused(Refusal::NoCard)) => Ok(Vec::new()),
        functions => Ok(functions?.iter().map(Function::address).collect()),
    }
}

/// Examines the host itself, as far as that is possible without a card.
///
/// # Errors
///
/// A file of the host cannot be read.
pub fn examine_host(host: &Host, options: &DoctorOptions, needs_card: bool) -> Result<Diagnosis, SetupError> {
    let mut checks = Vec::new();
    if needs_card {
        checks.push(host::no_card());
    }
    host::check(host, options, &mut checks)?;
    Ok(Diagnosis { address: "host".into(), checks })
}

/// Examines a function. The last check opens the card, if the host is the running system.
///
/// # Errors
///
/// A file of the host cannot be read. A missing function is not an error, but a failed check.
pub fn examine(host: &Host, address: PciAddress, options: &DoctorOptions) -> Result<Diagnosis, SetupError> {
    let mut checks = Vec::new();
    match host.sysfs().function(address) {
        Err(error) => checks.push(Check::bad("function", error.to_string(), "lspci -D")),
        Ok(function) => {
            let mode = select_mode(&mode::modes(host, &function)?, options.mode.as_ref());
            let identity = Identity::read(host)?;
            let presence = Presence::of(host, &function)?;
            let context = Context { host, function, options, identity, mode, presence };
            function::check(&context, &mut checks)?;
            process::check(&context, &mut checks)?;
            checks.push(open(&context));
        }
    }
    Ok(Diagnosis { address: address.to_string(), checks })
}

/// Returns the mode that the library would use: the requested one, or else cdev or type1. It uses no-IOMMU only on request.
fn select_mode(modes: &[Mode], requested: Option<&Result<Mode, UnknownMode>>) -> Option<Mode> {
    let fits = |mode: &&Mode| match requested {
        Some(requested) => requested.as_ref() == Ok(*mode),
        None => **mode != Mode::NoIommu,
    };
    modes.iter().find(fits).copied()
}

fn open(context: &Context) -> Check {
    const NAME: &str = "open";
    if !context.host.is_system() {
        return Check::skipped(NAME, "cards are not opened with --root");
    }
    if context.presence != Presence::Present {
        return Check::skipped(NAME, "the card does not work, see above");
    }
    if context.mode.is_none() {
        return Check::skipped(NAME, "not possible yet, see above");
    }
    let name = CardName::Pci(context.function.address());
    let options = CardOptions { register_bar: context.options.register_bar, ..CardOptions::default() };
    let report = name.open(options).and_then(|card| card.report());
    match report {
        Ok(report) => Check::good(NAME, report.to_string().replace('\n', "; ")),
        Err(error) => Check::bad(NAME, chain(&error), "see above, and `dmesg | tail`"),
    }
}

/// Returns the text of an error with its causes. Causes that the text already includes are not repeated.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}
