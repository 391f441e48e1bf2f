//! Sums of ranks whose cards all work.

use crate::job::{Job, alone, can_run, example, program};
use serde_json::Value;

fn pairs(parts: &Value) -> Vec<u64> {
    parts.as_array().unwrap().iter().map(|part| part["pairs"].as_u64().unwrap()).collect()
}

#[test]
fn four_ranks_with_two_cards_each_compute_the_sum_of_halo2curves() {
    if !can_run() {
        return;
    }
    let output = Job::new("--json --cards 2 --pairs 2^16 --min-part 2^12 --jobs 2").run().good();
    assert_eq!((&output["ranks"], &output["emulated"]), (&4.into(), &true.into()));
    assert_eq!(output["base_bytes_per_rank"], 64 << 16);
    let sums = output["sums"].as_array().unwrap();
    assert_eq!(sums.len(), 2);
    let ranks = &sums[0]["ranks"];
    // No card is measured before the first sum.
    assert_eq!(pairs(ranks), [1 << 14; 4]);
    for (index, rank) in ranks.as_array().unwrap().iter().enumerate() {
        assert_eq!(pairs(&rank["cards"]), [1 << 13; 2]);
        assert_eq!(rank["failures"], Value::Array(vec![]));
        let sent = if index == 0 { (0, 0) } else { (32 << 14, 96) };
        assert_eq!(
            (rank["scalar_bytes"].as_u64(), rank["result_bytes"].as_u64()),
            (Some(sent.0), Some(sent.1))
        );
    }
    assert_eq!(pairs(&sums[1]["ranks"]).iter().sum::<u64>(), 1 << 16);
    assert!(sums.iter().all(|sum| sum["reduce_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0)));
    let text = Job::new("--cards 1 --pairs 100").run().out;
    assert!(text.contains("all of them emulated") && text.contains("verified: halo2curves"), "{text}");
}

#[test]
fn ranks_can_have_their_own_copies_of_the_bases() {
    if can_run() {
        let output = Job::new("--json --pairs 2^12 --own-bases").run().good();
        assert_eq!(output["base_bytes_per_rank"], 0);
    }
}

/// 2^16 points are one message.
#[test]
fn bases_are_sent_in_several_messages() {
    if can_run() {
        let arguments = "--json --cards 1 --pairs 66000";
        let output = Job::of_programs(&[(2, program(), arguments)]).run().good();
        assert_eq!(pairs(&output["sums"][0]["ranks"]), [33_000; 2]);
    }
}

#[test]
fn fewer_pairs_than_ranks_are_summed() {
    if can_run() {
        let output = Job::new("--json --pairs 3 --jobs 2").run().good();
        assert_eq!(pairs(&output["sums"][0]["ranks"]).iter().sum::<u64>(), 3);
    }
}

#[test]
fn one_rank_needs_no_launcher() {
    // An empty search path: nothing of MPI can be started.
    let ended = alone(program(), "--json --cards 2 --pairs 2^12 --min-part 2^10", &[("PATH", "")]);
    let output = ended.good();
    assert_eq!((&output["ranks"], pairs(&output["sums"][0]["ranks"])), (&1.into(), vec![1 << 12]));
    let ended = alone(&example(), "", &[("PATH", "")]);
    assert!(ended.code == 0 && ended.out.contains("1 ranks"), "{}{}", ended.out, ended.err);
}

#[test]
fn the_example_runs_on_two_ranks() {
    if can_run() {
        let ended = Job::of_programs(&[(2, &example(), "")]).run();
        assert!(ended.code == 0 && ended.out.contains("the sum over 2 ranks with emulated cards is right"));
    }
}
