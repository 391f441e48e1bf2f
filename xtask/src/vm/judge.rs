//! What the guest wrote, test by test.

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// It says why it could not run.
    Skipped(String),
    Failed(String),
}

/// One test in one mode: `MODE PROGRAM TEST` as the guest's `run` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub test: String,
    pub verdict: Verdict,
}

/// Every test that began. One that did not end, because the guest died or was killed, failed, unless it said by itself
/// that it had passed.
pub fn outcomes(text: &str) -> Vec<Outcome> {
    let mut found = vec![];
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(test) = line.strip_prefix("vm: begin ") else { continue };
        let mut output = vec![];
        let mut end = None;
        while let Some(line) = lines.next_if(|line| !line.starts_with("vm: begin ")) {
            if let Some(ended) = line.strip_prefix("vm: end ") {
                end = ended.strip_prefix(test).map(str::trim);
                break;
            }
            output.push(line);
        }
        found.push(Outcome { test: test.to_string(), verdict: verdict(&output, end) });
    }
    found
}

/// The last words of a test after which its machine does not live on.
pub const PASSED: &str = "vm: passed";

fn verdict(output: &[&str], status: Option<&str>) -> Verdict {
    if let Some(why) = output.iter().find_map(|line| line.strip_prefix("skipped: ")) {
        return Verdict::Skipped(why.to_string());
    }
    let passed = output.iter().any(|line| line.starts_with("test result: ok. 1 passed;"));
    match status {
        Some("0") if passed => Verdict::Passed,
        None if output.contains(&PASSED) => Verdict::Passed,
        Some("137") => Verdict::Failed("it took too long".into()),
        Some("0") => Verdict::Failed("no such test".into()),
        Some(status) => Verdict::Failed(format!("status {status}: {}", reason(output))),
        None => Verdict::Failed(format!("it did not end: {}", reason(output))),
    }
}

/// What a panic said.
fn reason(output: &[&str]) -> String {
    let panic = output.iter().position(|line| line.contains("panicked at "));
    let said = panic.map_or(output.last().copied(), |at| output.get(at + 1).copied());
    said.unwrap_or("nothing was said").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, Verdict)> {
        outcomes(text).into_iter().map(|o| (o.test, o.verdict)).collect()
    }

    #[test]
    fn only_what_says_that_it_passed_has_passed() {
        let text = "noise\nvm: begin cdev driver a::b\nrunning 1 test\n\
                    test result: ok. 1 passed; 0 failed; 0 ignored\nvm: end cdev driver a::b 0\n\
                    vm: begin cdev driver gone\ntest result: ok. 0 passed; 0 failed\nvm: end cdev driver gone 0\n\
                    vm: begin cdev driver bad\nthread 'bad' panicked at x.rs:1:2:\nleft: 1\nnote\nvm: end cdev driver bad 101\n\
                    vm: begin cdev driver slow\nvm: end cdev driver slow 137\n";
        let verdicts = of(text);
        assert_eq!(verdicts[0], ("cdev driver a::b".into(), Verdict::Passed));
        assert_eq!(verdicts[1].1, Verdict::Failed("no such test".into()));
        assert_eq!(verdicts[2].1, Verdict::Failed("status 101: left: 1".into()));
        assert_eq!(verdicts[3].1, Verdict::Failed("it took too long".into()));
    }

    #[test]
    fn a_machine_that_dies_takes_a_test_with_it_unless_that_was_the_test() {
        let dead = "vm: begin type1 vm a\nrunning\nvm: begin type1 vm b\nvm: passed\n";
        let verdicts = of(dead);
        assert_eq!(verdicts[0].1, Verdict::Failed("it did not end: running".into()));
        assert_eq!(verdicts[1].1, Verdict::Passed);
        assert_eq!(
            of("vm: begin type1 vm c\n")[0].1,
            Verdict::Failed("it did not end: nothing was said".into())
        );
        let other = "vm: begin type1 vm a\nvm: end type1 vm other 0\n";
        assert!(matches!(of(other)[0].1, Verdict::Failed(_)));
    }

    #[test]
    fn a_skip_is_not_a_pass() {
        let text = "vm: begin x y z\nskipped: no pages\ntest result: ok. 1 passed; 0\nvm: end x y z 0\n";
        assert_eq!(of(text)[0].1, Verdict::Skipped("no pages".into()));
    }
}
