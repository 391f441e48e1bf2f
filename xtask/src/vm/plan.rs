//! The machines in `machines.toml`, and the tests that run on each.

use crate::suites::Level;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Time limit for a test in seconds; some exercise the whole driver, and the host may be slow and busy.
pub const DEADLINE: u32 = 300;

/// The content of `machines.toml`.
#[derive(Deserialize)]
pub struct Catalog {
    /// Hardware that all machines have.
    #[serde(flatten)]
    pub common: Part,
    pub iommu: BTreeMap<String, Part>,
    pub platform: BTreeMap<String, Part>,
    #[serde(rename = "machine")]
    pub machines: Vec<Machine>,
    pub counting: Machine,
    #[serde(rename = "exclusion")]
    exclusions: Vec<Exclusion>,
}

/// Part of a machine: QEMU arguments, kernel parameters, or both.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Part {
    /// QEMU arguments.
    pub qemu: String,
    /// Kernel parameters.
    pub kernel: String,
    /// Device properties of the card.
    pub device: String,
}

/// A machine to boot.
#[derive(Deserialize)]
pub struct Machine {
    pub name: String,
    /// Whether it boots without `--full`.
    #[serde(default)]
    pub default: bool,
    /// Whether the guest has Debian's kmod, udev and systemd besides busybox.
    #[serde(default)]
    pub debian: bool,
    /// Whether the card is a simulated image, which needs an `xdma` with the feature `rtl`.
    #[serde(default)]
    pub rtl: bool,
    pub iommu: String,
    pub platform: String,
    /// Options of `xdma emulate`.
    pub card: String,
    /// Shell scripts for the guest. The machine boots once for each.
    pub jobs: Vec<String>,
}

/// A driver test that runs on the host but not in virtual machines.
#[derive(Deserialize)]
struct Exclusion {
    test: String,
    /// Restricts the exclusion to cards with a function reset, or to cards without one.
    reset: Option<bool>,
    why: String,
}

/// The names of the tests in each program.
pub struct Tests {
    pub driver: Vec<String>,
    pub vm: Vec<String>,
}

/// The scripts of a machine's boots, and the tests that must have an outcome.
#[derive(Default)]
pub struct Plan {
    pub jobs: Vec<String>,
    pub expected: BTreeSet<String>,
}

impl Catalog {
    pub fn read() -> Result<Self> {
        toml::from_str(include_str!("machines.toml")).context("machines.toml")
    }

    /// Expands the lines that stand for many tests. Lines that start with `full` apply to that level only.
    pub fn plan(&self, machine: &Machine, tests: &Tests, level: Level) -> Plan {
        let mut plan = Plan::default();
        for job in &machine.jobs {
            plan.jobs.push(String::new());
            for line in job.lines().filter(|line| level == Level::Full || !line.starts_with("full ")) {
                self.expand(line.trim_start_matches("full "), machine, tests, &mut plan);
            }
        }
        plan
    }

    fn expand(&self, line: &str, machine: &Machine, tests: &Tests, plan: &mut Plan) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["driver", mode] => {
                let names = tests.driver.iter().filter(|test| !self.is_excluded(test, machine));
                plan.run("run", mode, "driver", names);
            }
            ["tests", mode, file] => plan.run("run", mode, "vm", of_file(tests, file)),
            ["tests_as", user, mode, file] => {
                plan.run(&format!("run_as {user}"), mode, "vm", of_file(tests, file));
            }
            ["check", name, ..] => {
                plan.line(line);
                plan.expected.insert(format!("root check {name}"));
            }
            _ => plan.line(line),
        }
    }

    fn is_excluded(&self, test: &str, machine: &Machine) -> bool {
        let reset = machine.card.contains("--function-reset");
        self.exclusions.iter().any(|e| e.test == test && e.reset.is_none_or(|only| only == reset))
    }

    /// Returns the tests that no machine runs, and the exclusions of tests that do not exist.
    pub fn problems(&self, tests: &Tests) -> Vec<String> {
        let expected: Vec<_> =
            self.machines.iter().map(|machine| self.plan(machine, tests, Level::Full).expected).collect();
        let runs = |test: &str| expected.iter().flatten().any(|run| run.ends_with(&format!(" vm {test}")));
        let vm = tests.vm.iter().filter(|test| !runs(test)).map(|test| format!("{test} runs on no machine"));
        let unknown = self.exclusions.iter().filter(|e| !tests.driver.contains(&e.test));
        vm.chain(unknown.map(|e| format!("exclusion of an unknown test: {} ({})", e.test, e.why))).collect()
    }
}

impl Plan {
    fn line(&mut self, line: &str) {
        let job = self.jobs.last_mut().expect("a plan has a job");
        job.push_str(line);
        job.push('\n');
    }

    fn run<'a>(&mut self, run: &str, mode: &str, program: &str, tests: impl Iterator<Item = &'a String>) {
        for test in tests {
            self.line(&format!("{run} {mode} {DEADLINE} {program} {test}"));
            self.expected.insert(format!("{mode} {program} {test}"));
        }
    }
}

fn of_file<'a>(tests: &'a Tests, file: &str) -> impl Iterator<Item = &'a String> {
    tests.vm.iter().filter(move |test| test.split_once("::").is_some_and(|(of, _)| of == file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests(catalog: &Catalog) -> Tests {
        let excluded = catalog.exclusions.iter().map(|e| e.test.clone());
        let files = "card c_programs iommu death device_files nodes prover unprivileged stranger returning";
        Tests {
            driver: excluded.chain(["memory::works".into()]).collect(),
            vm: files.split(' ').map(|file| format!("{file}::test")).collect(),
        }
    }

    #[test]
    fn each_mode_runs_the_driver_tests_without_the_exclusions() {
        let catalog = Catalog::read().unwrap();
        let tests = tests(&catalog);
        let plan = |machine| catalog.plan(machine, &tests, Level::Full);
        let plans = catalog.machines.iter().map(plan).collect::<Vec<_>>();
        for mode in ["type1", "cdev", "noiommu"] {
            let run = format!("{mode} driver memory::works");
            assert!(plans.iter().filter(|plan| plan.expected.contains(&run)).count() >= 2, "{mode}");
        }
        assert!(plans.iter().flat_map(|plan| &plan.expected).all(|test| !test.contains("socket")));
        let persistent = catalog.machines.iter().position(|machine| machine.debian).unwrap();
        let line = "run_as tester cdev 300 vm unprivileged::test\n";
        assert!(plans[persistent].jobs[1].contains(line), "{}", plans[persistent].jobs[1]);
    }

    #[test]
    fn every_machine_consists_of_known_components() {
        let catalog = Catalog::read().unwrap();
        let known = |of: &Machine| {
            catalog.iommu.contains_key(&of.iommu) && catalog.platform.contains_key(&of.platform)
        };
        assert!(catalog.machines.iter().chain([&catalog.counting]).all(known));
        assert_eq!(catalog.machines.iter().filter(|machine| machine.default).count(), 6);
    }

    #[test]
    fn unused_tests_and_unknown_exclusions_are_problems() {
        let catalog = Catalog::read().unwrap();
        let mut tests = tests(&catalog);
        assert_eq!(catalog.problems(&tests), Vec::<String>::new());
        tests.vm.push("nowhere::x".into());
        tests.driver.clear();
        assert_eq!(catalog.problems(&tests).len(), 1 + catalog.exclusions.len());
    }
}
