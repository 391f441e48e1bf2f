//! Which machines are booted, and which tests run in each.

use super::boot::{Boot, Iommu, Machine, System};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a test may take; the whole driver is at work in some.
const TEST: u32 = 120;
/// How long a boot may take.
const BOOT: Duration = Duration::from_secs(900);

/// A test that the host runs and some machines do not, and why.
struct Difference {
    test: &'static str,
    /// With a function that can be reset, without one, or in any case.
    reset: Option<bool>,
    why: &'static str,
}

const fn everywhere(test: &'static str, why: &'static str) -> Difference {
    Difference { test, reset: None, why }
}

const fn resettable(reset: bool, test: &'static str, why: &'static str) -> Difference {
    Difference { test, reset: Some(reset), why }
}

const DIFFERENCES: &[Difference] = &[
    everywhere("errors::a_file_or_a_dead_socket_is_no_card", "about sockets of vfio-user"),
    everywhere(
        "errors::a_server_that_never_answers_ends_in_an_error_not_a_hang",
        "about sockets of vfio-user",
    ),
    everywhere("errors::a_server_that_speaks_something_else_is_no_card", "about sockets of vfio-user"),
    everywhere("errors::no_socket_there", "about sockets of vfio-user"),
    everywhere("errors::register_offsets_are_checked", "opens the card's socket beside the bench"),
    everywhere(
        "errors::a_card_that_goes_away_is_gone_everywhere",
        "ends the card's process, after which the machine has no card: a boot of its own does that in each mode",
    ),
    resettable(false, "interrupts::interrupts_come_again_after_a_reset", "there is no reset"),
    resettable(true, "faults::a_link_that_goes_down_and_comes_back", A_MINUTE),
    resettable(true, "faults::a_link_that_goes_down_under_an_msm", A_MINUTE),
    resettable(true, "faults::a_link_that_goes_down_under_transfers", A_MINUTE),
];

const A_MINUTE: &str = "closing a card that is gone, the kernel tries a reset and waits a minute for it; without a reset the test runs";

/// Names of the tests in each program.
pub struct Tests {
    pub driver: Vec<String>,
    pub vm: Vec<String>,
}

/// A boot, and the tests that must have an outcome, as the guest's `run` names them.
pub struct Planned {
    pub boot: Boot,
    pub expected: BTreeSet<String>,
}

impl Planned {
    fn new(name: &str, iommu: Iommu, machine: Machine, card: &str) -> Self {
        let boot = Boot {
            name: name.into(),
            iommu,
            card: card.into(),
            machine,
            system: System::Small,
            jobs: vec![String::new()],
            deadline: BOOT,
        };
        Self { boot, expected: BTreeSet::new() }
    }

    /// With the card bound by `vfio-setup`, as a user would have it.
    fn bound(name: &str, iommu: Iommu, machine: Machine, card: &str) -> Self {
        let mut planned = Self::new(name, iommu, machine, card);
        planned.line("load_modules");
        let risk = if iommu == Iommu::None { " --no-iommu" } else { "" };
        planned.check("bind", &format!("{BIND}{risk}"));
        planned
    }

    /// A line for the guest's shell.
    fn line(&mut self, line: &str) {
        let job = self.boot.jobs.last_mut().expect("there is a job from the start");
        job.push_str(line);
        job.push('\n');
    }

    fn run(&mut self, command: &str, mode: &str, program: &str, test: &str) {
        self.line(&format!("{command} {mode} {TEST} {program} {test}"));
        self.expected.insert(format!("{mode} {program} {test}"));
    }

    /// A command that must succeed.
    fn check(&mut self, name: &str, command: &str) {
        self.line(&format!("check {name} {command}"));
        self.expected.insert(format!("root check {name}"));
    }

    /// What a user without privileges must be able to do, once the card was given to the group.
    fn run_unprivileged(&mut self, modes: &[&str], tests: &Tests) {
        self.check("doctor", DOCTOR);
        for mode in modes {
            self.run_file("run_as tester", mode, "unprivileged", tests);
            self.run_file("run_as stranger", mode, "stranger", tests);
        }
    }

    /// Tests of the folder `tests/vm`, by the file that they are in.
    fn run_file(&mut self, command: &str, mode: &str, file: &str, tests: &Tests) {
        for test in tests.vm.iter().filter(|test| test.split_once("::").is_some_and(|(of, _)| of == file)) {
            self.run(command, mode, "vm", test);
        }
    }

    /// What every mode must be able to do.
    fn run_mode(&mut self, mode: &str, tests: &Tests) {
        let reset = self.boot.card.contains("--function-reset");
        let differs =
            |test: &str| DIFFERENCES.iter().any(|d| d.test == test && d.reset.is_none_or(|of| of == reset));
        for test in tests.driver.iter().filter(|test| !differs(test)) {
            self.run("run", mode, "driver", test);
        }
        self.run_file("run", mode, "card", tests);
        self.run_file("run", mode, if mode == "noiommu" { "without_iommu" } else { "iommu" }, tests);
    }
}

const F1: &str = "--profile f1";
const BIND: &str = "vfio-setup bind --group fpga --hugepages 2M=64";
const DOCTOR: &str = "as tester vfio-setup doctor --memory 32";
const ALVEO: &str = "--profile alveo --function-reset";

/// The machines that boot by default: each mode, IOMMU and kind of card once, and a host that keeps its settings.
pub const DEFAULT: [&str; 4] = ["intel-f1-cdev", "amd-alveo", "noiommu-f1", "persistent"];

/// All machines, the longest first.
pub fn boots(tests: &Tests) -> Vec<Planned> {
    let mut all = vec![];
    // On F1 the card is on the root complex and has no reset; the other one is behind a port and has.
    for (name, iommu, machine, card, modes) in [
        ("intel-alveo", Iommu::Intel, Machine::RootPort, ALVEO, &["type1", "cdev"][..]),
        ("intel-f1-cdev", Iommu::Intel, Machine::Plain, F1, &["cdev"]),
        ("intel-f1-type1", Iommu::Intel, Machine::Plain, F1, &["type1"]),
        ("amd-f1", Iommu::Amd, Machine::Plain, F1, &["cdev"]),
        ("amd-alveo", Iommu::Amd, Machine::RootPort, ALVEO, &["type1"]),
        ("noiommu-f1", Iommu::None, Machine::Plain, F1, &["noiommu"]),
        ("noiommu-alveo", Iommu::None, Machine::RootPort, ALVEO, &["noiommu"]),
    ] {
        let mut planned = Planned::bound(name, iommu, machine, card);
        modes.iter().for_each(|mode| planned.run_mode(mode, tests));
        if iommu == Iommu::Intel {
            planned.run_unprivileged(modes, tests);
        }
        // It binds the card again, but not for the users that had it before.
        modes.iter().for_each(|mode| planned.run_file("run", mode, "returning", tests));
        if machine == Machine::RootPort {
            // QEMU does not survive it, so it comes last.
            modes.last().iter().for_each(|mode| planned.run_file("run", mode, "removal", tests));
        }
        all.push(planned);
    }
    for (mode, iommu) in [("type1", Iommu::Intel), ("cdev", Iommu::Intel), ("noiommu", Iommu::None)] {
        let mut planned = Planned::bound(&format!("death-{mode}"), iommu, Machine::NoPostedWrites, F1);
        planned.run_file("run", mode, "death", tests);
        all.push(planned);
    }
    let mut nodes = Planned::bound("two-nodes", Iommu::Intel, Machine::TwoNodes, ALVEO);
    ["type1", "cdev"].iter().for_each(|mode| nodes.run_file("run", mode, "nodes", tests));
    all.push(nodes);
    all.push(persistent(tests));
    all
}

/// Debian's kmod loads the modules for `vfio-setup`; what it persists is read, when the machine starts again, by Debian's
/// systemd-modules-load, udev and systemd-tmpfiles.
fn persistent(tests: &Tests) -> Planned {
    let mut planned = Planned::new("persistent", Iommu::Intel, Machine::Plain, F1);
    planned.boot.system = System::Debian;
    planned.line("install_modules");
    planned.check("bind", BIND);
    planned.check("persist", "vfio-setup persist --hugepages 2M=64");
    planned.check("rules", "udevadm verify /etc/udev/rules.d");
    planned.line("carry etc/modprobe.d etc/modules-load.d etc/security etc/tmpfiles.d etc/udev/rules.d");
    planned.boot.jobs.push("start_like_debian\n".into());
    planned.check("hugepages", "grep -x 64 /proc/sys/vm/nr_hugepages");
    planned.run_unprivileged(&["type1", "cdev"], tests);
    planned.check("undo", "vfio-setup undo");
    planned.check("gone", "[ ! -e /etc/udev/rules.d/60-xdma.rules ]");
    planned
}

/// How many of the host's tests of the driver run in each mode.
pub fn summary(tests: &Tests, boots: &[Planned]) -> String {
    let of = |mode: &str| {
        let start = format!("{mode} driver ");
        let run = boots.iter().flat_map(|b| &b.expected).filter(|test| test.starts_with(&start));
        format!("{mode} {}", run.collect::<BTreeSet<_>>().len())
    };
    let modes = ["cdev", "type1", "noiommu"].map(of).join(", ");
    format!("{} machines; of the host's {} tests of the driver: {modes}", boots.len(), tests.driver.len())
}

/// Tests and differences that name nothing that is there.
pub fn forgotten(tests: &Tests, boots: &[Planned]) -> Vec<String> {
    let run =
        |test: &&String| boots.iter().any(|b| b.expected.iter().any(|e| e.ends_with(&format!(" vm {test}"))));
    let vm = tests.vm.iter().filter(|test| !run(test)).map(|test| format!("{test} runs in no boot"));
    let known = |d: &&Difference| tests.driver.iter().any(|test| test == d.test);
    let stale = DIFFERENCES
        .iter()
        .filter(|d| !known(d))
        .map(|d| format!("{}: there is no such test ({})", d.test, d.why));
    vm.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests() -> Tests {
        let driver = DIFFERENCES.iter().map(|d| d.test.to_string()).chain(["memory::works".into()]).collect();
        let files = ["card", "iommu", "death", "nodes", "unprivileged", "stranger", "returning"];
        Tests { driver, vm: files.map(|file| format!("{file}::test")).to_vec() }
    }

    #[test]
    fn each_mode_runs_what_the_host_runs_but_for_the_table() {
        let boots = boots(&tests());
        for mode in ["type1", "cdev", "noiommu"] {
            let run = format!("{mode} driver memory::works");
            assert!(boots.iter().filter(|planned| planned.expected.contains(&run)).count() >= 2, "{mode}");
        }
        let noiommu = boots.iter().find(|planned| planned.boot.name == "noiommu-f1").unwrap();
        assert!(!noiommu.expected.contains("noiommu vm iommu::test"));
        assert!(boots.iter().all(|planned| planned.expected.iter().all(|test| !test.contains("socket"))));
        assert!(noiommu.boot.jobs[0].contains("--no-iommu\nrun noiommu 120 driver "));
        assert!(DEFAULT.iter().all(|name| boots.iter().any(|planned| planned.boot.name == *name)));
    }

    #[test]
    fn nothing_is_forgotten() {
        let mut tests = tests();
        assert_eq!(forgotten(&tests, &boots(&tests)), Vec::<String>::new());
        tests.vm.push("nowhere::x".into());
        tests.driver.clear();
        assert_eq!(forgotten(&tests, &boots(&tests)).len(), 1 + DIFFERENCES.len());
    }
}
