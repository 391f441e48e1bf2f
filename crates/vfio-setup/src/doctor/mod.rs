//! Everything that can keep the library from opening a card as this user, with what to type.

mod function;
mod process;

use super::accounts::Identity;
use super::mode::{self, Mode, UnknownMode};
use super::{Host, SetupError, select};
use serde::Serialize;
use std::error::Error;
use xdma::bus::PciAddress;
use xdma::bus::sysfs::Function;
use xdma::card::{CardName, CardOptions};

/// What the doctor is asked.
#[derive(Clone, Debug)]
pub struct DoctorOptions {
    /// Bytes of memory that the card is to reach at a time.
    pub memory: u64,
    /// The way that was asked for in `XDMA_VFIO` ([`Mode::from_environment`]), or what names none.
    pub mode: Option<Result<Mode, UnknownMode>>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is in the way.
    Good,
    /// It works, but not at its best.
    Note,
    /// This is in the way.
    Bad,
    /// It was not looked at.
    Skipped,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen.
    pub found: String,
    /// What to type.
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
    /// The function.
    pub address: String,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Whether nothing stands in the way.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Bad)
    }
}

/// What a check looks at.
struct Patient<'a> {
    host: &'a Host,
    function: Function,
    options: &'a DoctorOptions,
    identity: Identity,
    /// The way that a card would be opened, if there is one.
    mode: Option<Mode>,
}

/// The XDMA cards of a host.
///
/// # Errors
///
/// There is none.
pub fn cards(host: &Host) -> Result<Vec<PciAddress>, SetupError> {
    Ok(select::functions(host, &[], false)?.iter().map(Function::address).collect())
}

/// Examines a function. The last check opens the card, unless the host is not the running system.
///
/// # Errors
///
/// Something cannot be read. That there is no such function is a finding.
pub fn examine(host: &Host, address: PciAddress, options: &DoctorOptions) -> Result<Diagnosis, SetupError> {
    let mut checks = Vec::new();
    match host.sysfs().function(address) {
        Err(error) => checks.push(Check::bad("function", error.to_string(), "lspci -D")),
        Ok(function) => {
            let mode = chosen(&mode::modes(host, &function)?, options.mode.as_ref());
            let identity = Identity::read(host)?;
            let patient = Patient { host, function, options, identity, mode };
            function::check(&patient, &mut checks)?;
            process::check(&patient, &mut checks)?;
            checks.push(open(&patient));
        }
    }
    Ok(Diagnosis { address: address.to_string(), checks })
}

/// The way that the library takes: the one asked for, else cdev, else type1; never no-IOMMU by itself.
fn chosen(modes: &[Mode], asked: Option<&Result<Mode, UnknownMode>>) -> Option<Mode> {
    let fits = |mode: &&Mode| match asked {
        Some(asked) => asked.as_ref() == Ok(*mode),
        None => **mode != Mode::NoIommu,
    };
    modes.iter().find(fits).copied()
}

fn open(patient: &Patient) -> Check {
    const NAME: &str = "open";
    if !patient.host.is_system() {
        return Check::skipped(NAME, "with --root nothing is opened");
    }
    if patient.mode.is_none() {
        return Check::skipped(NAME, "there is no way to it yet, see above");
    }
    let name = CardName::Pci(patient.function.address());
    let report = name.open(CardOptions::default()).and_then(|card| card.report());
    match report {
        Ok(report) => Check::good(NAME, report.to_string().replace('\n', "; ")),
        Err(error) => Check::bad(NAME, chain(&error), "see above, and `dmesg | tail`"),
    }
}

/// An error with its causes, but for those that it quotes itself.
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
