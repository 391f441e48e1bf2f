//! Every command has a schema of its JSON. [`run`](crate::support::run) checks the output of all tests against it.

use crate::support::{json, run};
use std::collections::BTreeSet;
use xdma_testkit::schema::{check, names};

/// The output of `run` is that of its program.
const WITHOUT_JSON: &str = "run";

#[test]
fn every_command_has_a_schema() {
    let help = run("--help").good();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands = commands
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    let commands = commands.filter(|name| !["help", WITHOUT_JSON].contains(name)).chain(["bench-compare"]);
    let of_commands: BTreeSet<_> = commands.map(|name| format!("xdma-{name}")).collect();
    assert_eq!(of_commands, names("xdma-"));
}

/// The commands whose JSON no other test requests.
#[test]
fn generated_texts_and_lists_have_schemas() {
    json("list");
    json("completions bash");
    json("man");
    json("bench --quick --logic memory --sizes 64");
}

#[test]
#[should_panic(expected = "Additional properties")]
fn an_unknown_property_is_found() {
    let mut list = json("list");
    list["colour"] = 1.into();
    check("xdma-list", &list);
}

#[test]
#[should_panic(expected = "is not of type")]
fn a_number_in_a_text_is_found() {
    let mut info = json("info");
    info["vendor"] = "4334".into();
    check("xdma-info", &info);
}
