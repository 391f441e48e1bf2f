//! The driver in virtual machines: real `vfio-pci`, emulated IOMMUs, the emulated card.
//!
//! `XDMA_BOOTS=intel-f1-cdev,persistent` boots only these.

use super::{Level, PACKAGES, Suite};
use crate::run::{Run, executable};
use crate::table::duration;
use crate::vm::boot::Host;
use crate::vm::judge::{Verdict, outcomes};
use crate::vm::plan::{Catalog, Machine, Plan, Tests};
use crate::vm::rig::{self, Rig};
use anyhow::{Result, anyhow};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

pub const SUITE: Suite = Suite {
    name: "vm",
    about: "the driver under Linux' vfio-pci, in four virtual machines; with --full in all of them",
    takes: 4.5,
    level: Level::Default,
    needs: rig::NEEDS,
    run: suite,
};

fn suite(run: &mut Run) -> Result<()> {
    let Some(rig) = Rig::of(run)? else { return Ok(()) };
    // The same programs as for the suite `tests`.
    let targets = "--bin xdma --bin vfio-setup --test driver --test vm";
    let messages = run.build(&format!("build {PACKAGES} {targets}"))?;
    let program = |name| executable(&messages, name);
    let (driver, vm, setup) = (program("driver")?, program("vm")?, program("vfio-setup")?);
    let tests = Tests { driver: list(run, &driver)?, vm: list(run, &vm)? };
    let work = run.workspace.work("vm")?;
    let [small, debian] = ["small", "debian"].map(|kind| work.join(kind).with_extension("cpio"));
    let guest = [driver.as_path(), &vm, &setup];
    rig.make_image("small", &small, &guest)?;
    rig.make_image("debian", &debian, &guest)?;
    let host = Host { rig, catalog: Catalog::read()?, xdma: program("xdma")?, small, debian, work };
    for forgotten in host.catalog.forgotten(&tests) {
        run.fail("machines.toml", &anyhow!(forgotten));
    }
    let chosen = std::env::var("XDMA_BOOTS").ok();
    let machines = host.catalog.machines.iter();
    let machines = machines.filter(|machine| is_chosen(machine, run.level, chosen.as_deref()));
    let boots: Vec<_> = machines.map(|machine| (machine, host.catalog.plan(machine, &tests))).collect();
    run.notes.push(format!("{} machines", boots.len()));
    boot_all(run, &host, &boots);
    println!("    what each machine printed is in {}", host.work.display());
    Ok(())
}

/// The names of the tests in a program.
fn list(run: &mut Run, program: &Path) -> Result<Vec<String>> {
    let text = run.stdout(run.command(program, "--list"))?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(String::from).collect())
}

fn is_chosen(machine: &Machine, level: Level, chosen: Option<&str>) -> bool {
    match chosen {
        Some(names) => names.split(',').any(|name| name == machine.name),
        None => level == Level::Full || machine.default,
    }
}

/// Boots two machines at a time: one guest and its card keep a little more than one processor busy.
fn boot_all(run: &mut Run, host: &Host, boots: &[(&Machine, Plan)]) {
    let (next, run) = (Mutex::new(boots.iter()), Mutex::new(run));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((machine, plan)) = { next.lock().unwrap().next() } {
                    let start = Instant::now();
                    println!("    {}: boots", machine.name);
                    let text = host.boot(machine, &plan.jobs);
                    judge(&mut run.lock().unwrap(), &machine.name, plan, text, start);
                }
            });
        }
    });
}

/// Counts the tests of a boot, and compares those that ran with those that should have.
fn judge(run: &mut Run, name: &str, plan: &Plan, text: Result<String>, start: Instant) {
    let text = match text {
        Ok(text) => text,
        Err(error) => return run.fail(name, &error),
    };
    let (mut missing, mut passed) = (plan.expected.clone(), 0);
    for (test, verdict) in outcomes(&text) {
        let expected = missing.remove(&test);
        match verdict {
            Verdict::Passed if expected => passed += 1,
            Verdict::Passed => run.fail(name, &anyhow!("{test} was not asked for")),
            Verdict::Skipped(why) => run.tally.skipped.push(format!("{name}: {test}: {why}")),
            Verdict::Failed(why) => run.fail(name, &anyhow!("{test}: {why}")),
        }
    }
    // Usually the machine died.
    if let Some(first) = missing.first() {
        run.fail(name, &anyhow!("{} tests did not run, such as {first}", missing.len()));
    }
    run.tally.passed += passed;
    println!("    {name}: {passed} of {} in {}", plan.expected.len(), duration(start.elapsed()));
}
