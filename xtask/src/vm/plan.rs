//! The machines of `machines.toml`, and the tests that run in each.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds that a test may take; some use the whole driver.
const DEADLINE: u32 = 120;

/// All of `machines.toml`.
#[derive(Deserialize)]
pub struct Catalog {
    /// What all machines have.
    #[serde(flatten)]
    pub common: Part,
    pub iommu: BTreeMap<String, Part>,
    pub board: BTreeMap<String, Part>,
    #[serde(rename = "machine")]
    pub machines: Vec<Machine>,
    pub counting: Machine,
    #[serde(rename = "difference")]
    differences: Vec<Difference>,
}

/// A part of a machine's hardware.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Part {
    /// Arguments of QEMU.
    pub qemu: String,
    /// Parameters of the kernel.
    pub kernel: String,
    /// Properties of the card's device.
    pub device: String,
}

/// A machine to boot.
#[derive(Deserialize)]
pub struct Machine {
    pub name: String,
    /// Whether it boots without `--full`.
    #[serde(default)]
    pub default: bool,
    /// Whether the guest has Debian's own programs for modules, devices and files besides busybox.
    #[serde(default)]
    pub debian: bool,
    pub iommu: String,
    pub board: String,
    /// Options of `xdma emulate`.
    pub card: String,
    /// Lines for the guest's shell; the machine boots once for each job.
    pub jobs: Vec<String>,
}

/// A test of the driver that the host runs and machines do not.
#[derive(Deserialize)]
struct Difference {
    test: String,
    /// Applies only to cards with a function reset, or only to cards without one.
    reset: Option<bool>,
    why: String,
}

/// Names of the tests in each program.
pub struct Tests {
    pub driver: Vec<String>,
    pub vm: Vec<String>,
}

/// What one boot executes, and the tests that must have an outcome.
#[derive(Default)]
pub struct Plan {
    pub jobs: Vec<String>,
    pub expected: BTreeSet<String>,
}

impl Catalog {
    pub fn read() -> Result<Self> {
        toml::from_str(include_str!("machines.toml")).context("machines.toml")
    }

    /// Replaces the lines that stand for many tests.
    pub fn plan(&self, machine: &Machine, tests: &Tests) -> Plan {
        let mut plan = Plan::default();
        for job in &machine.jobs {
            plan.jobs.push(String::new());
            job.lines().for_each(|line| self.expand(line, machine, tests, &mut plan));
        }
        plan
    }

    fn expand(&self, line: &str, machine: &Machine, tests: &Tests, plan: &mut Plan) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["driver", mode] => {
                let names = tests.driver.iter().filter(|test| !self.differs(test, machine));
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

    fn differs(&self, test: &str, machine: &Machine) -> bool {
        let reset = machine.card.contains("--function-reset");
        self.differences.iter().any(|d| d.test == test && d.reset.is_none_or(|only| only == reset))
    }

    /// Tests that no machine runs, and differences from tests that do not exist.
    pub fn forgotten(&self, tests: &Tests) -> Vec<String> {
        let expected: Vec<_> =
            self.machines.iter().map(|machine| self.plan(machine, tests).expected).collect();
        let runs = |test: &str| expected.iter().flatten().any(|run| run.ends_with(&format!(" vm {test}")));
        let vm = tests.vm.iter().filter(|test| !runs(test)).map(|test| format!("{test} runs in no boot"));
        let unknown = self.differences.iter().filter(|d| !tests.driver.contains(&d.test));
        vm.chain(unknown.map(|d| format!("{}: there is no such test ({})", d.test, d.why))).collect()
    }
}

impl Plan {
    fn line(&mut self, line: &str) {
        let job = self.jobs.last_mut().expect("there is a job");
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
        let differences = catalog.differences.iter().map(|d| d.test.clone());
        let files = ["card", "iommu", "death", "nodes", "unprivileged", "stranger", "returning"];
        Tests {
            driver: differences.chain(["memory::works".into()]).collect(),
            vm: files.map(|file| format!("{file}::test")).to_vec(),
        }
    }

    #[test]
    fn each_mode_runs_what_the_host_runs_except_for_the_differences() {
        let catalog = Catalog::read().unwrap();
        let tests = tests(&catalog);
        let plans = catalog.machines.iter().map(|machine| catalog.plan(machine, &tests)).collect::<Vec<_>>();
        for mode in ["type1", "cdev", "noiommu"] {
            let run = format!("{mode} driver memory::works");
            assert!(plans.iter().filter(|plan| plan.expected.contains(&run)).count() >= 2, "{mode}");
        }
        assert!(plans.iter().flat_map(|plan| &plan.expected).all(|test| !test.contains("socket")));
        let persistent = catalog.machines.iter().position(|machine| machine.debian).unwrap();
        let line = "run_as tester cdev 120 vm unprivileged::test\n";
        assert!(plans[persistent].jobs[1].contains(line), "{}", plans[persistent].jobs[1]);
    }

    #[test]
    fn every_machine_consists_of_known_parts() {
        let catalog = Catalog::read().unwrap();
        for machine in catalog.machines.iter().chain([&catalog.counting]) {
            assert!(catalog.iommu.contains_key(&machine.iommu) && catalog.board.contains_key(&machine.board));
        }
        assert_eq!(catalog.machines.iter().filter(|machine| machine.default).count(), 4);
    }

    #[test]
    fn nothing_is_forgotten() {
        let catalog = Catalog::read().unwrap();
        let mut tests = tests(&catalog);
        assert_eq!(catalog.forgotten(&tests), Vec::<String>::new());
        tests.vm.push("nowhere::x".into());
        tests.driver.clear();
        assert_eq!(catalog.forgotten(&tests).len(), 1 + catalog.differences.len());
    }
}
