//! Parses the output of `cargo test`.

use crate::table::Tally;

/// Counts the tests in the output of `cargo test -- --show-output`.
///
/// A test that cannot run on this machine returns early and prints a line `skipped: WHY`; it counts as skipped, not as passed. Returns
/// `None` if there is no `test result:` line.
pub fn parse(output: &str) -> Option<Tally> {
    let mut tally = Tally::default();
    let (mut results, mut failed, mut reported_skips) = (0, 0, 0);
    let mut shown = None;
    for line in output.lines() {
        if let Some([passed, failures]) = result_line(line) {
            results += 1;
            tally.passed += passed;
            failed += failures;
            shown = None;
        } else if let Some((name, verdict)) = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ")) {
            match verdict.split_once(", ").unwrap_or((verdict, "ignored without a reason")) {
                ("FAILED", _) => tally.failed.push(name.into()),
                ("ignored", why) => tally.skipped.push(format!("{name}: {why}")),
                _ => {}
            }
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----")) {
            shown = Some(name);
        } else if let Some(why) = line.strip_prefix("skipped: ")
            && let Some(name) = shown.take()
        {
            tally.skipped.push(format!("{name}: {why}"));
            reported_skips += 1;
        }
    }
    tally.passed = tally.passed.saturating_sub(reported_skips);
    // The counts are right even if other output garbled a test's line.
    while tally.failed.len() < failed {
        tally.failed.push("a test, see the log".into());
    }
    (results > 0).then_some(tally)
}

/// Returns the output of the failed tests.
pub fn failures(output: &str) -> String {
    // `failures:` appears twice: before the tests' output, and before their names.
    output.split("\nfailures:\n").filter(|part| part.starts_with("\n---- ")).collect()
}

/// Parses `test result: ok. 3 passed; 0 failed; ...` into its first two numbers.
fn result_line(line: &str) -> Option<[usize; 2]> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let mut next = |word| counts.next()?.strip_suffix(word)?.parse().ok();
    Some([next(" passed")?, next(" failed")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_targets_add_up() {
        let output = "running 3 tests\ntest a::one ... ok\ntest a::two ... FAILED\n\
             test a::three ... ignored, needs a card\ntest four ... ignored\n\
             test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.07s\n";
        let tally = parse(output).unwrap();
        assert_eq!((tally.passed, tally.failed), (41, vec!["a::two".to_string()]));
        assert_eq!(tally.skipped, ["a::three: needs a card", "four: ignored without a reason"]);
        let garbled = parse("noise test x ... FAILED\ntest result: FAILED. 0 passed; 2 failed\n").unwrap();
        assert_eq!((garbled.passed, garbled.failed.len()), (0, 2));
        assert_eq!(parse("error: could not compile `xdma`\ntest result: what is this\n"), None);
    }

    #[test]
    fn a_test_that_prints_skipped_counts_as_skipped() {
        let output = "test huge ... ok\ntest plain ... ok\n\
             test result: ok. 7 passed; 0 failed\nsuccesses:\n\
             ---- huge stdout ----\nchecking\nskipped: no hugepages\nskipped: twice\n\
             ---- plain stdout ----\nnothing skipped: here\ntest result: ok. 2 passed; 0 failed\n";
        let tally = parse(output).unwrap();
        assert_eq!((tally.passed, tally.skipped), (8, vec!["huge: no hugepages".to_string()]));
    }

    #[test]
    fn only_the_output_of_failed_tests_is_returned() {
        let output = "running 2 tests\ntest a ... FAILED\ntest b ... ok\n\nsuccesses:\n\n---- b stdout ----\nfine\n\n\
                      failures:\n\n---- a stdout ----\nthread 'a' panicked at x.rs:1:2:\nleft: 1\n\n\
                      failures:\n    a\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured\n";
        assert_eq!(failures(output), "\n---- a stdout ----\nthread 'a' panicked at x.rs:1:2:\nleft: 1\n");
    }
}
