//! The program: exit codes, JSON, text.

use crate::support::{CARD, Tree};
use clap::Parser;
use serde_json::Value;
use std::process::{Command, Output};
use vfio_setup::cli::{self, Cli};
use xdma_testkit::schema::{check_output, names};
use xdma_testkit::terminal::check_help;

#[track_caller]
fn run(tree: &Tree, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-setup"));
    command.arg("--root").arg(tree.path("")).args(arguments).env_remove("XDMA_VFIO");
    let output = command.output().unwrap();
    if arguments.contains(&"--json") {
        check_output("vfio-setup", &arguments.join(" "), std::str::from_utf8(&output.stdout).unwrap());
    }
    output
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const COMMANDS: [&str; 11] = [
    "",
    "status",
    "plan",
    "bind",
    "unbind",
    "persist",
    "undo",
    "doctor",
    "f2-interrupts",
    "completions",
    "man",
];

#[test]
fn help_fits_the_terminal() {
    for command in COMMANDS {
        let words: Vec<_> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        check_help(env!("CARGO_BIN_EXE_vfio-setup"), &words);
    }
}

#[test]
fn the_exit_codes_are_in_the_help_of_every_command() {
    for command in COMMANDS {
        let mut arguments: Vec<_> = Some(command).filter(|c| !c.is_empty()).into_iter().collect();
        arguments.push("--help");
        let output = run(&Tree::new(), &arguments);
        assert_eq!(code(&output), 0);
        assert!(text(&output.stdout).contains("Exit codes:"), "{command}");
    }
    assert_eq!(code(&run(&Tree::new(), &["bind", "nonsense"])), 2);
    assert_eq!(code(&run(&Tree::new(), &["bind", "--node", "1"])), 2);
    assert_eq!(code(&run(&Tree::new(), &["bind", "--hugepages", "4K=1"])), 2);
}

#[test]
fn errors_about_files_have_a_remedy() {
    let tree = Tree::new();
    std::fs::write(tree.path("file"), "").unwrap();
    let vfio_setup = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_vfio-setup")).args(arguments).output().unwrap();
        (code(&output), text(&output.stderr))
    };
    let (file, missing) = (tree.path("file"), tree.path("missing"));
    for (path, remedy) in [
        (&file, "Not a directory (os error 20); a part of the path is a file"),
        (&missing, "No such file or directory (os error 2); check the path"),
    ] {
        let path = path.to_str().unwrap();
        for command in ["status", "plan", "bind", "unbind", "persist", "undo", "doctor"] {
            let (code, error) = vfio_setup(&["--root", path, command]);
            assert!(code == 1 && error.contains(path) && error.contains(remedy), "{command}: {error}");
        }
    }
    let (code, error) = vfio_setup(&["man", "--dir", file.to_str().unwrap()]);
    assert!(code == 1 && error.contains("File exists (os error 17); choose another path"), "{error}");
}

#[test]
fn the_version_names_the_program() {
    let output = run(&Tree::new(), &["--version"]);
    assert_eq!(text(&output.stdout), format!("vfio-setup {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn status_as_text_and_json() {
    let tree = Tree::with_card();
    let output = run(&tree, &["status"]);
    assert_eq!(code(&output), 0);
    let shown = text(&output.stdout);
    assert!(shown.contains(CARD) && !shown.contains('\x1b'), "a pipe gets no colours: {shown}");
    let status = json(&run(&tree, &["status", "--json"]));
    let card = &status["functions"][0];
    assert_eq!(
        (&card["address"], &card["driver"], &card["group"]),
        (&CARD.into(), &"xdma".into(), &7.into())
    );
    assert_eq!(card["modes"], Value::Array(Vec::new()));
    assert_eq!(status["host"]["iommu"], true);
}

#[test]
fn status_of_one_function() {
    let tree = Tree::with_card();
    tree.function("0000:00:1e.0", "0x8086", "0x1572", "0x020000");
    let status = json(&run(&tree, &["status", "0000:00:1e.0", "--json"]));
    let functions = status["functions"].as_array().unwrap();
    assert_eq!((functions.len(), &functions[0]["id"]), (1, &"8086:1572".into()));
    assert_eq!(code(&run(&tree, &["status", "0000:00:1f.0"])), 3);
    assert_eq!(code(&run(&tree, &["status", "--all", CARD])), 2);
}

#[test]
fn doctor_without_a_card_examines_the_host() {
    let tree = Tree::new();
    let report = json(&run(&tree, &["doctor", "--json"]));
    assert_eq!((&report["good"], &report["host"]["checks"][0]["name"]), (&false.into(), &"cards".into()));
    assert_eq!(code(&run(&tree, &["doctor"])), 4);
    assert_eq!(code(&run(&tree, &["persist"])), 0);
    let output = run(&tree, &["doctor", "--host", "--memory", "4"]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(text(&output.stdout).starts_with("host\n"), "{output:?}");
}

#[test]
fn plan_is_a_list_of_steps() {
    let tree = Tree::with_card();
    let plan = json(&run(&tree, &["plan", CARD, "--group", "fpga", "--json"]));
    let kinds: Vec<_> =
        plan["steps"].as_array().unwrap().iter().map(|step| step["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["load_module", "write", "write", "write", "own", "own"]);
    assert_eq!(plan["steps"][1]["path"], format!("/sys/bus/pci/devices/{CARD}/driver_override"));
    assert!(plan["steps"].as_array().unwrap().iter().all(|step| step["why"] != ""));
    assert_eq!(plan["done"], false);
}

#[test]
fn plan_shows_the_steps_of_unbind() {
    let tree = Tree::with_card();
    tree.driver_is_vfio(CARD);
    let plan = json(&run(&tree, &["plan", "--unbind", "--json"]));
    let kinds: Vec<_> = plan["steps"].as_array().unwrap().iter().map(|step| step["kind"].clone()).collect();
    assert_eq!(kinds, ["quiesce", "write", "write"]);
    assert_eq!(code(&run(&tree, &["plan", "--unbind", "--any"])), 2);
}

#[test]
fn a_refusal_is_reported_as_text_and_json() {
    let tree = Tree::with_card();
    // The program identifies files through the running kernel, so /dev/null takes the place of the card's node.
    tree.file("sys/class/vfio/7/dev", "1:3\n");
    tree.process(4242, "prover", &["/dev/null"]);
    let output = run(&tree, &["bind", "--json"]);
    assert_eq!(code(&output), 3);
    let report = json(&output);
    assert_eq!(report["exit_code"], 3);
    assert!(report["error"].as_str().unwrap().contains("process 4242"));
    assert!(text(&output.stderr).starts_with("vfio-setup: 0000:00:1d.0 is in use"));
}

/// Endless files and pipes in place of each kind of file.
#[test]
fn an_endless_file_is_an_error_that_names_it() {
    let files = [
        format!("sys/bus/pci/devices/{CARD}/vendor"),
        format!("sys/bus/pci/devices/{CARD}/driver_override"),
        "proc/self/mountinfo".into(),
        "proc/meminfo".into(),
        "etc/group".into(),
    ];
    for file in files {
        for kind in ["endless", "fifo", "huge"] {
            let tree = Tree::with_card();
            tree.file(&file, "");
            let path = tree.path(&file);
            match kind {
                "endless" => tree.link(&file, "/dev/zero"),
                "huge" => std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap(),
                _ => {
                    std::fs::remove_file(&path).unwrap();
                    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
                }
            }
            let begin = std::time::Instant::now();
            let output = run(&tree, &["plan", CARD, "--group", "fpga", "--hugepages", "2M=64"]);
            assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{kind} {file}");
            let error = text(&output.stderr);
            let name = file.rsplit('/').next().unwrap();
            assert!(code(&output) == 1 && error.contains(name), "{kind} {file}: {error}");
            assert!(
                error.contains("not a regular file") || error.contains("longer than"),
                "{kind} {file}: {error}"
            );
        }
    }
}

#[test]
fn endless_files_of_others_are_not_changed() {
    let tree = Tree::with_card();
    tree.file("etc/modules-load.d/xdma.conf", "");
    let path = tree.path("etc/modules-load.d/xdma.conf");
    std::fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(code(&run(&tree, &["persist"])), 3);
    std::fs::remove_file(&path).unwrap();
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(code(&run(&tree, &["persist"])), 3);
    assert_eq!(code(&run(&tree, &["undo"])), 5);
}

#[test]
fn a_huge_directory_is_an_error_that_names_it() {
    let tree = Tree::with_card();
    tree.directory("sys/class/net");
    for number in 0..=1 << 16 {
        std::fs::write(tree.path(&format!("sys/class/net/{number}")), "").unwrap();
    }
    let output = run(&tree, &["plan", CARD]);
    assert!(code(&output) == 1 && text(&output.stderr).contains("sys/class/net"), "{output:?}");
}

#[test]
fn modules_are_not_loaded_with_another_root() {
    let output = run(&Tree::with_card(), &["bind"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("not with --root"), "{output:?}");
}

#[test]
fn files_that_do_not_react_are_detected_by_reading_back() {
    let tree = Tree::with_card();
    tree.file("sys/bus/pci/drivers/vfio-pci/bind", "");
    let output = run(&tree, &["bind"]);
    // A write to a plain file does not truncate it, so reverting the override fails too.
    assert_eq!(code(&output), 5, "{output:?}");
    let error = text(&output.stderr);
    assert!(
        error.contains("is bound to xdma afterwards, expected no driver")
            && error.contains("could not be reverted"),
        "{error}"
    );
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"));
}

#[test]
fn undo_reverts_persist() {
    let tree = Tree::with_card();
    let dry = json(&run(&tree, &["persist", "--dry-run", "--json"]));
    assert_eq!(dry["files"].as_array().unwrap().len(), 4);
    assert!(!tree.path("etc/udev").exists());
    let output = run(&tree, &["persist"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let shown = text(&output.stdout);
    assert!(shown.contains("/etc/udev/rules.d/60-xdma.rules: created"), "{shown}");
    assert!(shown.contains("    @fpga - memlock unlimited"), "the files are shown: {shown}");
    assert!(shown.contains("LimitMEMLOCK=infinity"), "{shown}");
    tree.file("etc/modules-load.d/xdma.conf", "mine\n");
    let output = run(&tree, &["undo", "--json"]);
    assert_eq!(code(&output), 5);
    let kinds: Vec<_> =
        json(&output)["files"].as_array().unwrap().iter().map(|f| f["kind"].clone()).collect();
    assert_eq!(kinds, ["removed", "removed", "left", "removed"]);
}

#[test]
fn doctor_reports_problems_by_exit_code() {
    let tree = Tree::with_card();
    let output = run(&tree, &["doctor", "--json"]);
    assert_eq!(code(&output), 4);
    let report = json(&output);
    assert_eq!(report["good"], false);
    let checks = report["functions"][0]["checks"].as_array().unwrap();
    let driver = checks.iter().find(|check| check["name"] == "driver").unwrap();
    assert_eq!(driver["verdict"], "bad");
    assert!(driver["remedy"].as_str().unwrap().contains("vfio-setup bind"));

    tree.driver_is_vfio(CARD);
    let output = run(&tree, &["doctor", CARD]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(text(&output.stdout).contains("  ok    driver       vfio-pci\n"), "{output:?}");
}

/// The program has no kernel here that would react to its writes, so this calls its functions.
#[test]
fn commands_that_change_the_host_conform_to_their_schemas() {
    let tree = Tree::with_card();
    for arguments in
        ["plan", "bind", "bind --hugepages 2M=4", "status", "doctor", "plan --unbind", "unbind", "unbind"]
    {
        let cli = Cli::parse_from(["vfio-setup"].into_iter().chain(arguments.split_whitespace()));
        let outcome =
            cli::run(&tree.host(), &cli.command).unwrap_or_else(|error| panic!("{arguments}: {error}"));
        check_output("vfio-setup", arguments, &outcome.json.to_string());
    }
    assert!(tree.log().iter().any(|line| line.ends_with("unbind")), "{:?}", tree.log());
}

#[test]
fn every_command_has_a_schema_of_its_json() {
    let tree = Tree::with_card();
    let of_files = names("vfio-setup-");
    let help = text(&run(&tree, &["--help"]).stdout);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands = commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let of_commands: std::collections::BTreeSet<_> =
        commands.map(|name| format!("vfio-setup-{name}")).collect();
    assert_eq!(of_commands, of_files);
    run(&tree, &["completions", "bash", "--json"]);
    run(&tree, &["man", "--json"]);
}
