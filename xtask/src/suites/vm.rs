//! The driver in virtual machines: real `vfio-pci`, emulated IOMMUs, the emulated card.
//!
//! `XDMA_BOOTS=intel-f1-cdev,persistent` boots only these.

use super::{Level, PACKAGES, Suite};
use crate::run::{Run, executable};
use crate::table::duration;
use crate::vm::boot::Host;
use crate::vm::image;
use crate::vm::judge::{Verdict, outcomes};
use crate::vm::plan::{self, DEFAULT, Planned, Tests};
use crate::vm::rig::{self, Rig};
use anyhow::{Result, anyhow};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

pub const SUITE: Suite = Suite {
    name: "vm",
    about: "the driver under Linux' vfio-pci, in four virtual machines; with --full in all of them",
    takes: 3.0,
    level: Level::Default,
    needs: rig::NEEDS,
    wants: &[],
    run: suite,
};

fn suite(run: &mut Run) -> Result<()> {
    let Some(rig) = Rig::of(run)? else { return Ok(()) };
    let programs = Programs::build(run)?;
    let tests = Tests { driver: list(run, &programs.driver)?, vm: list(run, &programs.vm)? };
    let work = run.workspace.work("vm")?;
    let [small, debian] = ["small", "debian"].map(|kind| work.join(kind).with_extension("cpio"));
    let guest = [programs.driver.as_path(), &programs.vm, &programs.setup];
    image::make("small", &rig, &small, &guest)?;
    image::make("debian", &rig, &debian, &guest)?;
    let host = Host { rig, xdma: programs.xdma, small, debian, work };
    let mut boots = plan::boots(&tests);
    let before = run.tally.failed.len();
    for forgotten in plan::forgotten(&tests, &boots) {
        run.fail("the plan", &anyhow!(forgotten));
    }
    let chosen = std::env::var("XDMA_BOOTS").ok();
    boots.retain(|planned| is_chosen(&planned.boot.name, run.level, chosen.as_deref()));
    boot_all(run, &host, &boots);
    run.note = plan::summary(&tests, &boots);
    if run.tally.failed.len() > before {
        println!("    what each machine printed is in {}", host.work.display());
    }
    Ok(())
}

/// What cargo builds for the machines, the same as for the suite `tests`.
struct Programs {
    xdma: PathBuf,
    setup: PathBuf,
    driver: PathBuf,
    vm: PathBuf,
}

impl Programs {
    fn build(run: &mut Run) -> Result<Self> {
        let targets = "--bin xdma --bin vfio-setup --test driver --test vm --message-format=json";
        let messages = run.stdout(run.cargo(&format!("build {PACKAGES} {targets}")))?;
        let find = |name| executable(&messages, name);
        Ok(Self { xdma: find("xdma")?, setup: find("vfio-setup")?, driver: find("driver")?, vm: find("vm")? })
    }
}

/// The names of the tests in a program.
fn list(run: &mut Run, program: &Path) -> Result<Vec<String>> {
    let text = run.stdout(run.command(program, "--list"))?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(String::from).collect())
}

fn is_chosen(name: &str, level: Level, chosen: Option<&str>) -> bool {
    match chosen {
        Some(names) => names.split(',').any(|chosen| chosen == name),
        None => level == Level::Full || DEFAULT.contains(&name),
    }
}

/// Boots two machines at a time: one guest and its card keep a little more than one processor busy.
fn boot_all(run: &mut Run, host: &Host, boots: &[Planned]) {
    let (next, run) = (Mutex::new(boots.iter()), Mutex::new(run));
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
}

/// Counts the tests of a boot, and compares those that ran with those that should have.
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
    println!("    {name}: {passed} of {} in {}", planned.expected.len(), duration(start.elapsed()));
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn four_machines_boot_unless_others_are_named() {
        assert!(is_chosen("persistent", Level::Default, None));
        assert!(!is_chosen("two-nodes", Level::Default, None) && is_chosen("two-nodes", Level::Full, None));
        assert!(is_chosen("two-nodes", Level::Default, Some("a,two-nodes")));
        assert!(!is_chosen("persistent", Level::Full, Some("a,two-nodes")));
    }
}
