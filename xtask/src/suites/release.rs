//! Checks release builds: programs are small, the README's proof works, and optimised code handles extreme arguments.

use super::{Level, PACKAGES, Suite};
use crate::run::{Run, executable};
use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;

/// Maximum size of each program in megabytes.
const SIZE_LIMITS: [(&str, f64); 2] = [("xdma", 16.0), ("vfio-setup", 4.0)];

pub const SUITE: Suite = Suite {
    name: "release",
    about: "release programs are stripped and small, the README's proof runs, extreme arguments do not overflow",
    minutes: 10.0,
    level: Level::Full,
    needs: &["cc", "strip"],
    run: |run| {
        let messages = run.build(&format!("build --release {PACKAGES} --bin xdma --bin vfio-setup"))?;
        for (name, limit) in SIZE_LIMITS {
            let program = executable(&messages, name)?;
            run.check(name, |run| check_size(run, &program, limit));
        }
        run.check_cargo("run --release --example prove -- --json");
        // Overflow checks as in a debug build, but with a release build's optimisation.
        let checked = "--config profile.release.package.xdma.overflow-checks=true";
        run.cargo_test(&format!("--release {checked} --package xdma --test arguments"))
    },
};

fn check_size(run: &mut Run, program: &Path, limit: f64) -> Result<()> {
    let megabytes = fs::metadata(program)?.len() as f64 / 1e6;
    let name = program.file_name().unwrap_or_default().display();
    run.notes.push(format!("{name} {megabytes:.1} MB"));
    ensure!(megabytes <= limit, "{megabytes:.1} MB, the limit is {limit}");
    let mut sections = run.command("readelf", "--sections --wide");
    sections.arg(program);
    ensure!(!run.stdout(sections)?.contains(".symtab"), "{name} contains symbols; set `strip = true`");
    Ok(())
}
