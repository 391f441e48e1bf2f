//! Parses the guest's output into test outcomes.

/// The outcome of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// The reason.
    Skipped(String),
    /// The reason.
    Failed(String),
}

/// The last line of a test that crashes its machine on purpose.
pub const PASSED: &str = "vm: passed";

/// Returns every test that was started, as `MODE PROGRAM TEST` like the guest's function `run`, and its outcome. A test that did not end,
/// because the guest crashed or was killed, has failed, unless it printed [`PASSED`].
pub fn outcomes(text: &str) -> Vec<(String, Outcome)> {
    let tests = text.split("vm: begin ").skip(1).map(|part| {
        let (test, rest) = part.split_once('\n').unwrap_or((part, ""));
        let (output, status) = match rest.split_once(&format!("vm: end {test} ")) {
            Some((output, status)) => (output, status.lines().next()),
            None => (rest, None),
        };
        (test.to_string(), outcome(output, status))
    });
    tests.collect()
}

fn outcome(output: &str, status: Option<&str>) -> Outcome {
    if let Some(why) = output.lines().find_map(|line| line.strip_prefix("skipped: ")) {
        return Outcome::Skipped(why.to_string());
    }
    let has = |start| output.lines().any(|line| line.starts_with(start));
    match status {
        Some("0") if has("test result: ok. 1 passed;") => Outcome::Passed,
        None if has(PASSED) => Outcome::Passed,
        Some("137") => Outcome::Failed("timed out".into()),
        Some("0") => Outcome::Failed("no such test".into()),
        Some(status) => Outcome::Failed(format!("status {status}: {}", reason(output))),
        None => Outcome::Failed(format!("did not end: {}", reason(output))),
    }
}

/// Returns a panic's message, or else the last line.
fn reason(output: &str) -> &str {
    let message = output.lines().skip_while(|line| !line.contains("panicked at ")).nth(1);
    message.or(output.lines().last()).unwrap_or("no output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Outcome) {
        assert_eq!(outcomes(text), [("cdev driver a::b".into(), expected)]);
    }

    #[test]
    fn a_test_passes_only_if_it_prints_so() {
        let failed = |why: &str| Outcome::Failed(why.into());
        let begin = "noise\nvm: begin cdev driver a::b\n";
        let end = "vm: end cdev driver a::b";
        let passed = "test result: ok. 1 passed; 0 failed\n";
        check(&format!("{begin}running 1 test\n{passed}{end} 0\nmore\n"), Outcome::Passed);
        check(&format!("{begin}test result: ok. 0 passed; 0 failed\n{end} 0\n"), failed("no such test"));
        let panic = "thread 'a' panicked at x.rs:1:2:\nleft: 1\nnote\n";
        check(&format!("{begin}{panic}{end} 101\n"), failed("status 101: left: 1"));
        check(&format!("{begin}{end} 137\n"), failed("timed out"));
        check(&format!("{begin}skipped: no pages\n{passed}{end} 0\n"), Outcome::Skipped("no pages".into()));
        check(&format!("{begin}running\n"), failed("did not end: running"));
        check(begin, failed("did not end: no output"));
        check(&format!("{begin}running\n{PASSED}\n"), Outcome::Passed);
        check(&format!("{begin}{passed}vm: end b 0\n"), failed("did not end: vm: end b 0"));
    }
}
