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
    run("peek 4G").bad(2, &["32 bits"]);
    run("peek nowhere").bad(2, &["is not a number"]);
    run("poke 0").bad(2, &["<VALUES>"]);
}
