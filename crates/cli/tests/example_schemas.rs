//! Checks the output of the examples with `--json` against its schemas. Not among the tests of the examples, because everyone who builds
//! an example would compile the validator of the schemas.

use std::process::Command;
use xdma_testkit::schema::check;

#[test]
fn reports_conform_to_their_schemas() {
    // Cargo places examples in `examples`, next to the directory `deps` of this test program.
    let test = std::env::current_exe().unwrap();
    let examples = test.ancestors().nth(2).unwrap().join("examples");
    for command in [
        "msm --pairs 300",
        "msm --pairs 3000 --cards 2",
        "prove",
        "prove --overlap",
        "prove_batch --proofs 2",
    ] {
        let (example, options) = command.split_once(' ').unwrap_or((command, ""));
        let program = examples.join(example);
        assert!(
            program.is_file(),
            "{example} is not built; run: cargo build --package xdma-examples --examples"
        );
        let output = Command::new(program).arg("--json").args(options.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        check(&format!("example-{example}"), &serde_json::from_slice(&output.stdout).unwrap());
    }
}
