//! What the guest printed, test by test.

/// The outcome of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// The reason.
    Skipped(String),
    /// The reason.
    Failed(String),
}

/// The last line of a test that its machine does not survive.
pub const PASSED: &str = "vm: passed";

/// Every test that began, named `MODE PROGRAM TEST` as by the guest's `run`. A test that did not end, because the guest died or was
/// killed, failed, unless it printed [`PASSED`].
pub fn outcomes(text: &str) -> Vec<(String, Verdict)> {
    let tests = text.split("vm: begin ").skip(1).map(|part| {
        let (test, rest) = part.split_once('\n').unwrap_or((part, ""));
        let (output, status) = match rest.split_once(&format!("vm: end {test} ")) {
            Some((output, status)) => (output, status.lines().next()),
            None => (rest, None),
        };
        (test.to_string(), verdict(output, status))
    });
    tests.collect()
}

fn verdict(output: &str, status: Option<&str>) -> Verdict {
    if let Some(why) = output.lines().find_map(|line| line.strip_prefix("skipped: ")) {
        return Verdict::Skipped(why.to_string());
    }
    let has = |start| output.lines().any(|line| line.starts_with(start));
    match status {
        Some("0") if has("test result: ok. 1 passed;") => Verdict::Passed,
        None if has(PASSED) => Verdict::Passed,
        Some("137") => Verdict::Failed("it took too long".into()),
        Some("0") => Verdict::Failed("no such test".into()),
        Some(status) => Verdict::Failed(format!("status {status}: {}", reason(output))),
        None => Verdict::Failed(format!("it did not end: {}", reason(output))),
    }
}

/// The message of a panic, or else the last line.
fn reason(output: &str) -> &str {
    let message = output.lines().skip_while(|line| !line.contains("panicked at ")).nth(1);
    message.or(output.lines().last()).unwrap_or("it printed nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Verdict) {
        assert_eq!(outcomes(text), [("cdev driver a::b".into(), expected)]);
    }

    fn failed(why: &str) -> Verdict {
        Verdict::Failed(why.into())
    }

    #[test]
    fn only_a_test_that_prints_that_it_passed_has_passed() {
        let begin = "noise\nvm: begin cdev driver a::b\n";
        let end = "vm: end cdev driver a::b";
        let passed = "test result: ok. 1 passed; 0 failed\n";
        check(&format!("{begin}running 1 test\n{passed}{end} 0\nmore\n"), Verdict::Passed);
        check(&format!("{begin}test result: ok. 0 passed; 0 failed\n{end} 0\n"), failed("no such test"));
        let panic = "thread 'a' panicked at x.rs:1:2:\nleft: 1\nnote\n";
        check(&format!("{begin}{panic}{end} 101\n"), failed("status 101: left: 1"));
        check(&format!("{begin}{end} 137\n"), failed("it took too long"));
        check(&format!("{begin}skipped: no pages\n{passed}{end} 0\n"), Verdict::Skipped("no pages".into()));
        check(&format!("{begin}running\n"), failed("it did not end: running"));
        check(begin, failed("it did not end: it printed nothing"));
        check(&format!("{begin}running\n{PASSED}\n"), Verdict::Passed);
        check(
            &format!("{begin}{passed}vm: end cdev driver other 0\n"),
            failed("it did not end: vm: end cdev driver other 0"),
        );
    }
}
