//! Results from an emulated card cannot be mistaken for those of a real one.

use crate::support::{run, run_experiments};
use serde_json::Value;

#[test]
fn every_result_says_that_the_card_is_emulated() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data");
    std::fs::write(&file, [7; 4096]).unwrap();
    let file = file.display();
    for command in [
        "info".to_owned(),
        "regs h2c0".to_owned(),
        "peek 0 8".to_owned(),
        "poke 0x200 1 2".to_owned(),
        "survey".to_owned(),
        "selftest --logic memory --scratch 0 --load 0.1".to_owned(),
        "bench --quick --time 0.01".to_owned(),
        format!("write --logic memory --address 0 {file} --verify"),
        format!("read --logic memory --address 0 --length 4096 {file}"),
        format!("write --logic loopback --stream --packet 1000 {file} --receive {file}.out"),
    ] {
        let text = run_experiments(&command).good();
        assert!(text.contains("emulated"), "{command}: {text}");
        let object: Value =
            serde_json::from_str(&run_experiments(&format!("{command} --json")).good()).unwrap();
        let emulated = [&object["emulated"], &object["machine"]["card"]["emulated"]];
        let noted = object["notes"].to_string().contains("from an emulated card");
        assert!(emulated.contains(&&true.into()) || noted, "{command}: {object}");
    }
}

#[test]
fn each_line_of_words_and_packets_says_so() {
    for command in ["peek 0 8", "poke 0x200 1 2"] {
        let text = run(command).good();
        assert!(
            text.lines().count() == 2 && text.lines().all(|line| line.ends_with("(emulated card)")),
            "{text}"
        );
    }
}
