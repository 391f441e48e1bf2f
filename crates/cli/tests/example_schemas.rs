//! Checks the help of the examples, and their output with `--json` against its schemas. Not among the tests of the examples, because
//! everyone who builds an example would compile what these tests use.

use std::path::PathBuf;
use std::process::Command;
use xdma_testkit::schema::check;
use xdma_testkit::terminal::check_help;

fn program(example: &str) -> PathBuf {
    // Cargo places examples in `examples`, next to the directory `deps` of this test program.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(example);
    assert!(program.is_file(), "{example} is not built; run: cargo build --package xdma-examples --examples");
    program
}

#[test]
fn help_fits_the_terminal() {
    for example in [
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
    ] {
        check_help(program(example).to_str().unwrap(), &["--help"]);
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
