//! Tests the driver in virtual machines, with the kernel's `vfio-pci`, emulated IOMMUs and the emulated card.
//!
//! `XDMA_BOOTS=intel-f1-cdev,persistent` boots only these two machines.

use super::{Level, PACKAGES, SIMULATED, Suite};
use crate::run::{Run, executable};
use crate::table::duration;
use crate::vm::boot::Launcher;
use crate::vm::outcomes::{Outcome, outcomes};
use crate::vm::plan::{Catalog, Machine, Plan, Tests};
use crate::vm::rig::{self, Rig};
use anyhow::{Result, anyhow};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

pub const SUITE: Suite = Suite {
    name: "vm",
    about: "the driver under the kernel's vfio-pci, in six virtual machines; with --full in all of them",
    minutes: 11.0,
    level: Level::Default,
    needs: rig::NEEDS,
    run: run_machines,
};

fn run_machines(run: &mut Run) -> Result<()> {
    let Some(rig) = Rig::get_or_build(run)? else { return Ok(()) };
    let (catalog, work) = (Catalog::read()?, run.workspace.work_dir("vm")?);
    let (level, names) = (run.level, std::env::var("XDMA_BOOTS").ok());
    let selected = |machine: &&Machine| match &names {
        Some(names) => names.split(',').any(|name| name == machine.name),
        None => level == Level::Full || machine.default,
    };
    if catalog.machines.iter().filter(selected).any(|machine| machine.rtl) {
        // With an example, dependencies have the features of the suite `rtl`. The next build overwrites the program.
        let messages = run.build(&format!("build {SIMULATED} --bin xdma --example msm"))?;
        std::fs::copy(executable(&messages, "xdma")?, work.join("xdma-rtl"))?;
    }
    // The same build as for the suite `tests`.
    let targets = "--lib --bin xdma --bin vfio-setup --test driver --test vm";
    let messages = run.build(&format!("build {PACKAGES} {targets}"))?;
    let program = |name| executable(&messages, name);
    let (driver, vm, setup, xdma) =
        (program("driver")?, program("vm")?, program("vfio-setup")?, program("xdma")?);
    let tests = Tests { driver: list(run, &driver)?, vm: list(run, &vm)? };
    let library = |name| xdma.with_file_name(name);
    let [preload, capi, module] = ["libxdma_preload.so", "libxdma_capi.a", "lib_xdma.so"].map(library);
    let guest = [driver.as_path(), &vm, &setup, &xdma, &preload];
    for (kind, programs) in [("small", &guest[..]), ("debian", &guest), ("programs", &[&capi, &module])] {
        rig.make_image(kind, &work.join(kind).with_extension("cpio"), programs)?;
    }
    let launcher = Launcher { rig, catalog, xdma, work };
    for problem in launcher.catalog.problems(&tests) {
        run.fail("machines.toml", &anyhow!(problem));
    }
    let plan = |machine| (machine, launcher.catalog.plan(machine, &tests, level));
    let boots: Vec<_> = launcher.catalog.machines.iter().filter(selected).map(plan).collect();
    run.notes.push(format!("{} machines", boots.len()));
    boot_all(run, &launcher, &boots);
    println!("    the output of each machine is in {}", launcher.work.display());
    Ok(())
}

/// Returns the names of the tests in a program.
fn list(run: &mut Run, program: &Path) -> Result<Vec<String>> {
    let text = run.stdout(run.command(program, "--list"))?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(String::from).collect())
}

/// Boots two machines at a time, since a guest and its card keep a little more than one processor busy.
fn boot_all(run: &mut Run, launcher: &Launcher, boots: &[(&Machine, Plan)]) {
    let (next, run) = (Mutex::new(boots.iter()), Mutex::new(run));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((machine, plan)) = { next.lock().unwrap().next() } {
                    let start = Instant::now();
                    println!("    {}: booting", machine.name);
                    let text = launcher.boot(machine, &plan.jobs);
                    record_outcomes(&mut run.lock().unwrap(), &machine.name, plan, text, start);
                }
            });
        }
    });
}

/// Records the outcomes of a boot, and a failure for each expected test that did not run.
fn record_outcomes(run: &mut Run, name: &str, plan: &Plan, text: Result<String>, start: Instant) {
    let text = match text {
        Ok(text) => text,
        Err(error) => return run.fail(name, &error),
    };
    let (mut missing, mut passed) = (plan.expected.clone(), 0);
    for (test, outcome) in outcomes(&text) {
        let expected = missing.remove(&test);
        match outcome {
            Outcome::Passed if expected => passed += 1,
            Outcome::Passed => run.fail(name, &anyhow!("{test} ran unexpectedly")),
            Outcome::Skipped(why) => run.tally.skipped.push(format!("{name}: {test}: {why}")),
            Outcome::Failed(why) => run.fail(name, &anyhow!("{test}: {why}")),
        }
    }
    // Usually the machine crashed.
    if let Some(first) = missing.first() {
        run.fail(name, &anyhow!("{} tests did not run, including {first}", missing.len()));
    }
    run.tally.passed += passed;
    println!("    {name}: {passed} of {} in {}", plan.expected.len(), duration(start.elapsed()));
}
