//! Checks the help of the examples, and their output with `--json` against its schemas. Not among the tests of the examples, because
//! building an example would then also compile the dependencies of these tests.

use std::path::PathBuf;
use std::process::Command;
use xdma_testkit::command::with_functions;
use xdma_testkit::schema::check;
use xdma_testkit::terminal::check_help;

/// All examples, except `feed_study`, which needs Verilator and uses no card.
const EXAMPLES: [&str; 11] = [
    "async_msm",
    "commit",
    "loopback",
    "msm",
    "multi_channel",
    "own_memory",
    "prove",
    "prove_batch",
    "registers",
    "stream_receive",
    "user_interrupt",
];

fn program(example: &str) -> PathBuf {
    // Cargo places examples in `examples`, next to the directory `deps` of this test program.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(example);
    assert!(program.is_file(), "{example} is not built; run: cargo build --package xdma-examples --examples");
    program
}

#[test]
fn help_fits_the_terminal() {
    for example in EXAMPLES {
        check_help(program(example).to_str().unwrap(), &["--help"]);
    }
}

/// On a machine with a real card, no example uses an emulated card unless it is named.
#[test]
fn examples_do_not_choose_between_a_real_and_an_emulated_card() {
    let root = tempfile::tempdir().unwrap();
    let card = root.path().join("0000:3b:00.0");
    std::fs::create_dir(&card).unwrap();
    std::fs::write(card.join("vendor"), "0x10ee").unwrap();
    std::fs::write(card.join("device"), "0x9038").unwrap();
    for example in EXAMPLES {
        let Some(mut command) = with_functions(root.path(), &program(example)) else { return };
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("--card (0000:3b:00.0)"), "{example}: {text}");
    }
}

#[test]
fn reports_conform_to_their_schemas() {
    for command in [
        "msm --pairs 300",
        "msm --pairs 3000 --cards 2",
        "prove",
        "prove --overlap",
        "prove_batch --proofs 2",
    ] {
        let (example, options) = command.split_once(' ').unwrap_or((command, ""));
        let output =
            Command::new(program(example)).arg("--json").args(options.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        check(&format!("example-{example}"), &serde_json::from_slice(&output.stdout).unwrap());
    }
}
