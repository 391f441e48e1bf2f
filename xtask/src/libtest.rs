//! Reads what `cargo test` prints.

use crate::table::Tally;

/// Counts the tests in the output of `cargo test -- --show-output`.
///
/// A test that cannot run on a machine returns early and prints a line `skipped: WHY`; it counts as skipped, not as
/// passed. `None` if there is no `test result:` line at all.
pub fn parse(output: &str) -> Option<Tally> {
    let mut tally = Tally::default();
    let (mut results, mut failed, mut ignored, mut said) = (0, 0, 0, 0);
    let mut shown = None;
    for line in output.lines() {
        if let Some(counts) = result_line(line) {
            results += 1;
            tally.passed += counts[0];
            failed += counts[1];
            ignored += counts[2];
            shown = None;
        } else if let Some((name, verdict)) = test_line(line) {
            match verdict {
                "FAILED" => tally.failed.push(name.to_string()),
                _ => tally.skipped.extend(ignored_reason(name, verdict)),
            }
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----")) {
            shown = Some(name);
        } else if let Some(why) = line.strip_prefix("skipped: ")
            && let Some(name) = shown.take()
        {
            tally.skipped.push(format!("{name}: {why}"));
            said += 1;
        }
    }
    tally.passed = tally.passed.saturating_sub(said);
    // The counts are right even where a line was garbled.
    pad(&mut tally.failed, failed, "a test, see the log");
    pad(&mut tally.skipped, ignored + said, "an ignored test, see the log");
    (results > 0).then_some(tally)
}

/// What the failed tests printed: the parts of a log that a reader wants to see.
pub fn failures(output: &str) -> String {
    // `failures:` comes twice, before what they printed and before their names.
    output.split("\nfailures:\n").filter(|part| part.starts_with("\n---- ")).collect()
}

fn pad(names: &mut Vec<String>, count: usize, name: &str) {
    while names.len() < count {
        names.push(name.to_string());
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; ...` as its first three numbers.
fn result_line(line: &str) -> Option<[usize; 3]> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let mut next = |word| counts.next()?.strip_suffix(word)?.parse().ok();
    Some([next(" passed")?, next(" failed")?, next(" ignored")?])
}

/// `test NAME ... VERDICT`.
fn test_line(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

fn ignored_reason(name: &str, verdict: &str) -> Option<String> {
    let why = verdict.strip_prefix("ignored")?;
    let why = why.strip_prefix(", ").unwrap_or("ignored, and does not say why");
    Some(format!("{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_targets_add_up() {
        let tally = parse(
            "running 3 tests\n\
             test a::one ... ok\n\
             test a::two ... FAILED\n\
             test a::three ... ignored, needs a card\n\
             test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.07s\n",
        )
        .unwrap();
        assert_eq!(tally.passed, 41);
        assert_eq!(tally.failed, ["a::two"]);
        assert_eq!(tally.skipped, ["a::three: needs a card"]);
    }

    #[test]
    fn a_test_that_says_it_skipped_did_not_pass() {
        let tally = parse(
            "test huge ... ok\ntest plain ... ok\n\
             successes:\n\
             ---- huge stdout ----\nlooking\nskipped: no hugepages\nskipped: twice\n\
             ---- plain stdout ----\nnothing skipped: here\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        )
        .unwrap();
        assert_eq!(tally.passed, 1);
        assert_eq!(tally.skipped, ["huge: no hugepages"]);
    }

    #[test]
    fn a_failure_whose_line_is_garbled_still_counts() {
        let tally = parse(
            "noise test x ... FAILED\ntest result: FAILED. 0 passed; 2 failed; 1 ignored; 0 measured\n",
        );
        let tally = tally.unwrap();
        assert_eq!((tally.passed, tally.failed.len(), tally.skipped.len()), (0, 2, 1));
    }

    #[test]
    fn no_result_line_is_no_result() {
        assert_eq!(parse("error: could not compile `xdma`\n"), None);
        assert_eq!(parse("test result: what is this\n"), None);
    }

    #[test]
    fn what_failed_is_shown_without_the_rest() {
        let output = "running 2 tests\ntest a ... FAILED\ntest b ... ok\n\n\
                      successes:\n\n---- b stdout ----\nfine\n\nsuccesses:\n    b\n\n\
                      failures:\n\n---- a stdout ----\nthread 'a' panicked at x.rs:1:2:\nleft: 1\n\n\
                      failures:\n    a\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured\n";
        assert_eq!(failures(output), "\n---- a stdout ----\nthread 'a' panicked at x.rs:1:2:\nleft: 1\n");
        assert_eq!(failures("test result: ok. 1 passed; 0 failed; 0 ignored\n"), "");
    }
}
