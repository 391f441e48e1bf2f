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
fn blocks_are_selected_by_name_or_prefix() {
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
fn the_msm_block_needs_the_msm_design() {
    let design = json("regs msm");
    assert_eq!(register(&design, "msm", "image_id")["value"], 0x4d53_4d01);
    assert_eq!(register(&design, "msm", "image_parameters")["fields"]["curve"], 1);
    assert_eq!(register(&design, "msm", "scalar_depth")["value"], 1024);
    run("regs msm --logic memory").bad(3, &["not the MSM design", "load the design's image"]);
}

#[test]
fn registers_cleared_by_reading_are_read_only_if_forced() {
    let (_card, option) = memory();
    // Setting and clearing Run makes the engine latch the idle bit.
    run(&format!("poke --bar xdma --force 0x04 0x41 {option}")).good();
    run(&format!("poke --bar xdma --force 0x0c 0x01 {option}")).good();
    let read = |force: &str| json(&format!("regs h2c0 {force} {option}"));
    for _ in 0..2 {
        let seen = read("");
        assert_eq!(register(&seen, "h2c0", "status_rc")["value"], Value::Null);
        assert_eq!(register(&seen, "h2c0", "status")["fields"]["idle_stopped"], 1, "the bit stays set");
    }
    let text = run(&format!("regs h2c0 {option}")).good();
    assert!(text.contains("status_rc             not read, as reading clears it (use --force)"), "{text}");
    assert!(text.contains("0x00000040  idle_stopped\n"), "{text}");
    assert_eq!(register(&read("--force"), "h2c0", "status_rc")["fields"]["idle_stopped"], 1);
    assert_eq!(register(&read(""), "h2c0", "status")["value"], 0, "the forced read cleared the bit");
}

#[test]
fn regs_does_not_change_the_card() {
    let (_card, option) = memory();
    run(&format!("poke --bar xdma --force 0x2004 0x5 {option}")).good();
    let seen = json(&format!("regs irq {option}"));
    assert_eq!(register(&seen, "irq", "user_enable")["value"], 5, "neither command cleared it");
    run(&format!("info {option}")).good();
    let seen = json(&format!("regs irq {option}"));
    assert_eq!(
        register(&seen, "irq", "user_enable")["value"],
        0,
        "`info` opens the card for use, which clears it"
    );
}

#[test]
fn watch_marks_changes() {
    let text = run("regs msm --watch=0.05 --times 3").good();
    let marked: Vec<_> = text.lines().filter(|line| line.starts_with('*')).collect();
    assert_eq!(marked.len(), 2, "{text}");
    assert!(marked.iter().all(|line| line.contains("cycles")), "{marked:?}");
    let lines = run("regs msm --watch=0.05 --times 2 --json").good();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(register(&last, "msm", "cycles")["changed"], true);
    assert_eq!(register(&last, "msm", "image_id")["changed"], false);
    assert_eq!(register(&last, "msm", "image_id")["changed_fields"], serde_json::json!([]));
    // The word after the option is the block, not the interval.
    assert!(run("regs --watch h2c0 --times 1").good().contains("h2c0"));
    run("regs msm --watch=never").bad(2, &["not a number of seconds"]);
    run("regs msm --times 2").bad(2, &["--watch"]);
}
