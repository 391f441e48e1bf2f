//! The driver in virtual machines: real `vfio-pci`, emulated IOMMUs, the emulated card.
//!
//! `XDMA_BOOTS=intel-f1,persistent` boots these only.

use super::Suite;
use crate::run::{Run, executable};
use crate::vm::apt::output;
use crate::vm::boot::Host;
use crate::vm::image;
use crate::vm::judge::{Verdict, outcomes};
use crate::vm::plan::{self, Planned, Tests};
use crate::vm::rig::Rig;
use anyhow::{Result, anyhow};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

pub const SUITE: Suite = Suite {
    name: "vm",
    about: "the driver under Linux' vfio-pci, in each of its modes",
    needs: &["cc", "make", "bc", "xz"],
    wants: &[],
    run: suite,
};

fn suite(run: &mut Run) -> Result<()> {
    let Some(rig) = Rig::of(run)? else { return Ok(()) };
    let programs = Programs::build(run)?;
    let tests = Tests { driver: list(&programs.driver)?, vm: list(&programs.vm)? };
    let work = run.workspace.work("vm")?;
    let stripped = image::strip(&[&programs.driver, &programs.vm, &programs.setup], &work)?;
    let (small, debian) = (image::small(&rig, &stripped)?, image::debian(&rig, &stripped)?);
    let host = Host { rig, xdma: programs.xdma, small, debian, work };
    let boots = plan::boots(&tests);
    let before = run.tally.failed.len();
    for forgotten in plan::forgotten(&tests, &boots) {
        run.fail("the plan", &anyhow!(forgotten));
    }
    boot_all(run, &host, &boots)?;
    run.note = plan::summary(&tests, &boots);
    if run.tally.failed.len() > before {
        println!("    what each machine wrote is in {}", host.work.display());
    }
    Ok(())
}

/// What cargo builds for it, the same as for the suite of tests.
struct Programs {
    xdma: PathBuf,
    setup: PathBuf,
    driver: PathBuf,
    vm: PathBuf,
}

impl Programs {
    fn build(run: &mut Run) -> Result<Self> {
        let build = "test --workspace --no-run --test driver --test vm --features cli --message-format=json";
        let text = run.stdout(run.cargo(build))?;
        let find = |name| executable(&text, name);
        Ok(Self { xdma: find("xdma")?, setup: find("vfio-setup")?, driver: find("driver")?, vm: find("vm")? })
    }
}

/// The tests that a program has.
fn list(program: &Path) -> Result<Vec<String>> {
    let text = output(Command::new(program).arg("--list"))?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(String::from).collect())
}

/// Two at a time: one guest and its card keep a little more than one processor busy.
fn boot_all(run: &mut Run, host: &Host, boots: &[Planned]) -> Result<()> {
    let chosen = std::env::var("XDMA_BOOTS").unwrap_or_default();
    let chosen: Vec<&Planned> = boots
        .iter()
        .filter(|planned| chosen.is_empty() || chosen.split(',').any(|name| name == planned.boot.name))
        .collect();
    let (next, run) = (Mutex::new(chosen.into_iter()), Mutex::new(run));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(planned) = { next.lock().unwrap().next() } {
                    let start = Instant::now();
                    let text = host.boot(&planned.boot);
                    judge(&mut run.lock().unwrap(), planned, text, start);
                }
            });
        }
    });
    Ok(())
}

/// Counts the tests of a boot. Those that ran are compared with those that should have.
fn judge(run: &mut Run, planned: &Planned, text: Result<String>, start: Instant) {
    let name = &planned.boot.name;
    let text = match text {
        Ok(text) => text,
        Err(error) => return run.fail(name, &error),
    };
    let (mut missing, mut passed) = (planned.expected.clone(), 0);
    for outcome in outcomes(&text) {
        let expected = missing.remove(&outcome.test);
        match outcome.verdict {
            Verdict::Passed if expected => passed += 1,
            Verdict::Passed => run.fail(name, &anyhow!("{} was not asked for", outcome.test)),
            Verdict::Skipped(why) => run.tally.skipped.push(format!("{name}: {}: {why}", outcome.test)),
            Verdict::Failed(why) => run.fail(name, &anyhow!("{}: {why}", outcome.test)),
        }
    }
    // Usually the machine died.
    if let Some(first) = missing.first() {
        run.fail(name, &anyhow!("{} tests did not run, such as {first}", missing.len()));
    }
    run.tally.passed += passed;
    println!("    {name}: {passed} of {} in {:.0} s", planned.expected.len(), start.elapsed().as_secs_f64());
}
