//! Failures of cards. The last card of rank 2 fails while it computes.

use crate::job::{Job, can_run};
use serde_json::Value;

const SIZE: &str = "--json --pairs 2^14 --min-part 2^10 --card-margin 1";
/// Pairs of a rank, and of a card.
const RANK: u64 = 1 << 12;
const CARD: u64 = 1 << 11;

/// Checks that the card's part, and nothing else, was computed again, and that the card then gets no part.
#[track_caller]
fn check_one_part_again(output: &Value, cause: &str) {
    for (index, rank) in output["sums"][0]["ranks"].as_array().unwrap().iter().enumerate() {
        let parts = rank["cards"].as_array().unwrap();
        let computed: u64 = parts.iter().map(|part| part["pairs"].as_u64().unwrap()).sum();
        assert_eq!(computed, RANK, "each pair counts once");
        let failures = rank["failures"].as_array().unwrap();
        if index != 2 {
            assert!(failures.is_empty(), "{rank}");
            continue;
        }
        assert_eq!(failures.len(), 1, "{rank}");
        assert_eq!((&failures[0]["card"], &failures[0]["pairs"]), (&"emulated-2.1".into(), &CARD.into()));
        assert!(failures[0]["cause"].as_str().unwrap().contains(cause), "{rank}");
        assert!(parts.iter().all(|part| part["card"] == "emulated-2.0"), "{rank}");
        assert_eq!(rank["cards_in_service"], 1);
    }
    let later = &output["sums"][1]["ranks"][2];
    assert_eq!(later["failures"], Value::Array(vec![]));
    assert!(later["cards"].as_array().unwrap().iter().all(|part| part["card"] == "emulated-2.0"), "{later}");
}

#[test]
fn the_part_of_a_card_that_dies_is_computed_again() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --cards 2 --jobs 2 --fault 2:card-gone")).run();
        check_one_part_again(&ended.good(), "the card is gone");
        assert!(ended.err.contains("emulated-2.1"), "the log names the card");
    }
}

#[test]
fn the_part_of_a_card_that_hangs_is_computed_again() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --cards 2 --jobs 2 --fault 2:card-hung")).run();
        check_one_part_again(&ended.good(), "not finished within");
    }
}

#[test]
fn a_wrong_result_is_found_by_the_check_and_its_card_taken_out() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --cards 2 --jobs 2 --check --fault 2:card-wrong")).run();
        check_one_part_again(&ended.good(), "the card's result is wrong");
    }
}

#[test]
fn a_wrong_result_without_the_check_is_found_by_the_comparison_only() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --cards 2 --fault 2:card-wrong")).run();
        assert!(ended.out.contains("\"verified\":false"), "{}", ended.out);
        assert_eq!(ended.code, 70);
        assert!(ended.err.contains("differs from that of halo2curves"), "{}", ended.err);
    }
}

#[test]
fn a_rank_without_a_card_left_ends_the_job() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --cards 1 --fault 2:card-gone")).run();
        ended.bad(
            70,
            &["rank 2 (host ", "card emulated-2.0, 4096 pairs: the card is gone", "without a result"],
        );
    }
}

#[test]
fn the_root_without_a_card_left_ends_the_job() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --cards 1 --fault 0:card-gone")).run();
        ended.bad(70, &["rank 0 (host ", "card emulated-0.0, 4096 pairs: the card is gone"]);
    }
}

/// The card's own deadline is much longer than the job's.
#[test]
fn a_card_that_exceeds_the_deadline_of_the_job_is_named() {
    if can_run() {
        let ended = Job::new("--cards 2 --pairs 2^12 --min-part 2^8 --deadline 2 --fault 2:card-hung").run();
        ended.bad(70, &["rank 2 (host ", "not finished within 2s", "card emulated-2.1: computes 512 pairs"]);
    }
}
