//! `info`, and errors of opening a card.

use crate::support::{json, memory, run, xdma};
use serde_json::Value;

#[test]
fn info_as_text() {
    let text = run("info").good();
    for part in [
        "1d0f:f001 over vfio-user",
        "link Gen3 x16",
        "BAR2: 64 KiB (XDMA registers)",
        "BAR0: 32 MiB (user logic)",
        "H2C channels 0 to 3: memory-mapped, 64-bit addresses, address alignment 1, length granularity 1; ring: credits or chain; \
         core version 6",
        "MSM design: BN254, 13-bit windows, FIFOs of 1024 scalars and 1024 points, 250 MHz",
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

#[test]
fn info_as_json() {
    let card = json("info --card alveo");
    assert_eq!((&card["vendor"], &card["device"]), (&0x10ee.into(), &0x903f.into()));
    assert_eq!((&card["register_bar"], &card["user_bar"]), (&1.into(), &0.into()));
    assert_eq!(card["link"]["now"], serde_json::json!({ "generation": 3, "lanes": 16 }));
    assert_eq!((&card["max_read_request_bytes"], &card["data_width_bytes"]), (&512.into(), &64.into()));
    assert_eq!(card["page_sizes"], serde_json::json!([4096]));
    let channels = card["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 8);
    assert_eq!(channels[5]["direction"], "C2H");
    assert_eq!(channels[5]["rings"], serde_json::json!(["credits", "chain"]));
    assert_eq!(card["msm"]["scalar_depth"], 1024);
    assert_eq!(json("info --no-design")["msm"], Value::Null);
    assert_eq!(json("info --logic memory")["msm"], Value::Null);
}

#[test]
fn streams_are_shown_with_their_rings() {
    let card = json("info --logic loopback");
    for channel in card["channels"].as_array().unwrap() {
        assert_eq!(channel["stream"], true);
        assert_eq!(channel["rings"], serde_json::json!(["credits", "chain"]));
    }
    run("write --address 0 --logic loopback Cargo.toml").bad(3, &["AXI-Stream"]);
}

#[test]
fn a_missing_card_is_an_error() {
    run("info --card unix:/nowhere/card").bad(3, &["cannot open card", "xdma emulate --socket"]);
    run("info --card f3").bad(2, &["`f3` is not a card"]);
    run("info --card unix:/nowhere/card --logic memory").bad(2, &["--logic is for emulated cards"]);
    let ended = run("info --card unix:/nowhere/card --json");
    let object: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(object["exit_code"], 3);
    assert!(object["error"].as_str().unwrap().contains("cannot open card"));
}

#[test]
fn an_open_card_cannot_be_opened_again() {
    let (card, option) = memory();
    let _other = xdma::card::Card::connect(card.socket(), xdma::card::CardOptions::default()).unwrap();
    run(&format!("info {option}")).bad(3, &["taken", &format!("process {} has it open", std::process::id())]);
}

#[test]
fn the_environment_selects_a_card() {
    let (_card, option) = memory();
    let name = option.strip_prefix("--card ").unwrap();
    let output = xdma("info --json").env("XDMA_CARD", name).output().unwrap();
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["card"], name);
}

#[test]
fn an_empty_name_of_a_card_is_explained() {
    let output = xdma("info").env("XDMA_CARD", "").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("unset XDMA_CARD"), "{output:?}");
}
