//! `peek` and `poke`.

use crate::support::{json, memory, run};

#[test]
fn words_are_read_in_hexadecimal() {
    let text = run("peek 0 6").good();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("00000000: 4d534d01 "), "{text}");
    assert!(lines[1].starts_with("00000010: ") && lines.len() == 2, "{text}");
    let ids = json("peek --bar xdma 0x1000");
    assert_eq!((&ids["bar"], &ids["values"]), (&"xdma".into(), &serde_json::json!([0x1fc1_0006])));
}

#[test]
fn words_are_written_and_read_back() {
    let (_card, option) = memory();
    let text = run(&format!("poke {option} --bar xdma --force 0x4080 0x1000 0xffffffff")).good();
    assert!(text.contains("00004080: 00001000, verified"), "{text}");
    let seen = json(&format!("peek {option} --bar xdma 0x4080 2"));
    assert_eq!(seen["values"], serde_json::json!([0x1000, u32::MAX]));
    // An identifier register is read-only.
    let text = run("poke 0 1").good();
    assert!(text.contains("00000000: 00000001, reads back as 4d534d01"), "{text}");
    let silent = json("poke 0 1 --no-read-back");
    assert_eq!(silent["read_back"], serde_json::json!([null]));
}

#[test]
fn registers_of_the_core_need_force() {
    run("poke --bar xdma 0x04 1").bad(2, &["can start an engine", "--force"]);
    run("peek --bar xdma 0x1144").bad(2, &["clears the register", "--force"]);
    run("peek --bar xdma 0x40 2").bad(2, &["reading 0x44"]);
    run("peek --bar xdma 0x40 2 --force").good();
    let written = json("poke --bar xdma --force 0x44 1");
    assert_eq!(written["read_back"], serde_json::json!([null]), "reading it back would clear it");
}

#[test]
fn words_outside_the_bar_are_rejected() {
    run("peek 2").bad(2, &["0x2 is not a multiple of 4"]);
    run("peek 0x2000000").bad(2, &["0x2000000", "BAR of 0x2000000 bytes"]);
    run("peek 0x1fffffc").good();
    run("peek 0x1fffffc 2").bad(2, &["offset 0x2000000"]);
    run("poke 0x1fffffc 1 2").bad(2, &["offset 0x2000000"]);
    run("peek 0xfffffffc 0xffffffff").bad(2, &[]);
    run("peek 0 0").bad(2, &[]);
    run("peek 4G").bad(2, &["0x100000000"]);
    run("poke 0 0x100000000").bad(2, &["does not fit in 32 bits", "--width"]);
    run("peek --width 16 1").bad(2, &["0x1 is not a multiple of 2"]);
    run("peek --width 64 0x1fffffc").bad(2, &["not a multiple of 8"]);
    run("peek --bar 3 0").bad(3, &["no BAR 3"]);
    run("peek --bar 6 0").bad(2, &["`6` is not a BAR", "0 to 5"]);
    run("peek nowhere").bad(2, &["is not a number"]);
    run("poke 0").bad(2, &["<VALUES>"]);
}

#[test]
fn words_have_any_width_in_any_bar() {
    let (_card, option) = memory();
    run(&format!("poke {option} 0x100 0x44332211")).good();
    let seen = |arguments: &str| json(&format!("peek {option} {arguments}"))["values"].clone();
    assert_eq!(seen("--width 8 0x101 2"), serde_json::json!([0x22, 0x33]));
    assert_eq!(seen("--bar 0 --width 16 0x102"), serde_json::json!([0x4433]));
    assert_eq!(seen("--bar user --width 64 0x100"), serde_json::json!([0x4433_2211]));
    let text = run(&format!("poke {option} --width 8 0x103 0xff")).good();
    assert!(text.contains("00000103: ff, verified"), "{text}");
    assert_eq!(seen("0x100"), serde_json::json!([0xff33_2211_u32]));
    // BAR4 is the card's memory.
    run(&format!("poke {option} --bar 4 --width 64 0x123000 0x1122334455667788")).good();
    assert_eq!(seen("--bar 4 --width 16 0x123002"), serde_json::json!([0x5566]));
    // The register BAR by its number needs the same care.
    run(&format!("poke {option} --bar 2 0x04 1")).bad(2, &["can start an engine", "--force"]);
    run(&format!("peek {option} --bar 2 --width 64 0x40")).bad(2, &["reading 0x40 clears the register"]);
    let text = run(&format!("peek {option} --width 8 0x100 4")).good();
    assert!(text.starts_with("00000100: 11 22 33 ff"), "{text}");
}

#[test]
fn negative_numbers_are_explained() {
    for arguments in ["poke 0x200 -1", "poke -4 1", "peek -1"] {
        run(arguments).bad(2, &["is negative", "0xffffffff"]);
    }
}
