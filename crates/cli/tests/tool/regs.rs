//! `regs`.

use crate::support::{json, memory, run};
use serde_json::Value;

fn register<'a>(object: &'a Value, block: &str, name: &str) -> &'a Value {
    let named = |list: &'a Value, name: &str| {
        let mut all = list.as_array().unwrap().iter();
        all.find(|each| each["name"] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
    };
    named(&named(&object["blocks"], block)["registers"], name)
}

#[test]
fn registers_are_decoded_by_field() {
    let text = run("regs config").good();
    assert!(text.contains("0x300c RO   max_read_request      0x00000002  size=2 (512 bytes)"), "{text}");
    assert!(text.contains("relaxed_ordering"), "{text}");
    let all = json("regs");
    assert_eq!(all["blocks"].as_array().unwrap().len(), 19, "all of the core, and nothing of the user BAR");
    let alignments = register(&all, "c2h3", "alignments");
    assert_eq!((&alignments["address"], &alignments["value"]), (&0x134c.into(), &0x0001_0140.into()));
    assert_eq!(alignments["fields"]["address_bits"], 64);
    assert_eq!(register(&all, "irq", "channel_vectors[1]")["address"], 0x20a4);
}

#[test]
fn blocks_are_chosen_by_name_or_by_its_beginning() {
    let names = |arguments: &str| {
        let object = json(arguments);
        let blocks = object["blocks"].as_array().unwrap().iter();
        blocks.map(|block| block["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("regs h2c1"), ["h2c1"]);
    assert_eq!(names("regs C2H2_sgdma"), ["c2h2_sgdma"]);
    assert_eq!(names("regs s"), ["sgdma_common"]);
    run("regs dma").bad(2, &["no block dma", "h2c0, h2c1", "msm"]);
}

#[test]
fn the_design_is_shown_where_it_is() {
    let design = json("regs msm");
    assert_eq!(register(&design, "msm", "image_id")["value"], 0x4d53_4d01);
    assert_eq!(register(&design, "msm", "image_parameters")["fields"]["curve"], 1);
    assert_eq!(register(&design, "msm", "scalar_depth")["value"], 1024);
    run("regs msm --logic memory").bad(3, &["not the MSM design", "load its image"]);
}

#[test]
fn what_changes_by_being_read_is_left_alone_unless_forced() {
    let (_card, option) = memory();
    // Run, and no Run any more: the engine logs that it went idle.
    run(&format!("poke --bar xdma --force 0x04 0x41 {option}")).good();
    run(&format!("poke --bar xdma --force 0x0c 0x01 {option}")).good();
    let look = |force: &str| json(&format!("regs h2c0 {force} {option}"));
    for _ in 0..2 {
        let seen = look("");
        assert_eq!(register(&seen, "h2c0", "status_rc")["value"], Value::Null);
        assert_eq!(register(&seen, "h2c0", "status")["fields"]["idle_stopped"], 1, "it stays");
    }
    let text = run(&format!("regs h2c0 {option}")).good();
    assert!(text.contains("status_rc             not read: reading clears it (--force)"), "{text}");
    assert!(text.contains("0x00000040  idle_stopped\n"), "{text}");
    assert_eq!(register(&look("--force"), "h2c0", "status_rc")["fields"]["idle_stopped"], 1);
    assert_eq!(register(&look(""), "h2c0", "status")["value"], 0, "the one who looked took it away");
}

#[test]
fn looking_leaves_the_card_as_it_was() {
    let (_card, option) = memory();
    run(&format!("poke --bar xdma --force 0x2004 0x5 {option}")).good();
    let seen = json(&format!("regs irq {option}"));
    assert_eq!(register(&seen, "irq", "user_enable")["value"], 5, "neither command turned it off");
    run(&format!("info {option}")).good();
    let seen = json(&format!("regs irq {option}"));
    assert_eq!(register(&seen, "irq", "user_enable")["value"], 0, "whoever takes the card over does");
}

#[test]
fn a_watch_marks_what_changed() {
    let text = run("regs msm --watch 0.05 --times 3").good();
    let marked: Vec<_> = text.lines().filter(|line| line.starts_with('*')).collect();
    assert_eq!(marked.len(), 2, "{text}");
    assert!(marked.iter().all(|line| line.contains("cycles")), "{marked:?}");
    let lines = run("regs msm --watch 0.05 --times 2 --json").good();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(register(&last, "msm", "cycles")["changed"], true);
    assert_eq!(register(&last, "msm", "image_id")["changed"], false);
    assert_eq!(register(&last, "msm", "image_id")["changed_fields"], serde_json::json!([]));
    run("regs msm --watch never").bad(2, &["no number of seconds"]);
    run("regs msm --times 2").bad(2, &["--watch"]);
}
