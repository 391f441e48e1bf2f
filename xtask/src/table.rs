//! The table at the end of a run.

use std::fmt::Write;
use std::time::Duration;

/// Counts of checks, and the words that go with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Checks that passed.
    pub passed: usize,
    /// One sentence or test name each.
    pub failed: Vec<String>,
    /// The reason of each skip.
    pub skipped: Vec<String>,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The suite.
    pub suite: &'static str,
    /// What came of it.
    pub tally: Tally,
    /// How long it took.
    pub took: Duration,
    /// What the suite found worth saying, a count or a bound.
    pub note: String,
}

const HEADER: [&str; 6] = ["suite", "passed", "failed", "skipped", "time", "why"];
/// Reasons and names shown in the table; the log has them all.
const SHOWN: usize = 5;

/// The table, one line a suite; names of failed checks and reasons of skips stand on lines of their own.
pub fn render(rows: &[Row]) -> String {
    let mut lines = vec![HEADER.map(String::from)];
    lines.extend(rows.iter().flat_map(lines_of));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for (number, [suite, passed, failed, skipped, time, why]) in lines.iter().enumerate() {
        let line = format!(
            "{suite:<a$}  {passed:>b$}  {failed:>c$}  {skipped:>d$}  {time:>e$}  {why}",
            a = widths[0],
            b = widths[1],
            c = widths[2],
            d = widths[3],
            e = widths[4],
        );
        let _ = writeln!(text, "{}", line.trim_end());
        if number == 0 {
            let _ = writeln!(text, "{}", "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len() + 3));
        }
    }
    text
}

fn lines_of(row: &Row) -> Vec<[String; 6]> {
    let tally = &row.tally;
    let mut why: Vec<String> = Vec::new();
    why.extend((!row.note.is_empty()).then(|| row.note.clone()));
    why.extend(shortened("failed", &tally.failed));
    why.extend(shortened("skipped", &tally.skipped));
    let first = [
        row.suite.to_string(),
        tally.passed.to_string(),
        tally.failed.len().to_string(),
        tally.skipped.len().to_string(),
        seconds(row.took),
        why.first().cloned().unwrap_or_default(),
    ];
    let more = why.into_iter().skip(1).map(|why| ["", "", "", "", "", &why].map(String::from));
    std::iter::once(first).chain(more).collect()
}

fn shortened(word: &str, items: &[String]) -> Vec<String> {
    let shown = items.iter().take(SHOWN).map(|item| format!("{word}: {item}"));
    let rest = items.len().saturating_sub(SHOWN);
    shown.chain((rest > 0).then(|| format!("{word}: {rest} more, see the log"))).collect()
}

/// A duration as people read it.
pub fn seconds(took: Duration) -> String {
    let whole = took.as_secs();
    if whole < 60 {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{} m {:02} s", whole / 60, whole % 60)
    }
}

/// The last line, which scripts read.
pub fn summary(rows: &[Row]) -> String {
    let sum = |count: fn(&Tally) -> usize| rows.iter().map(|row| count(&row.tally)).sum::<usize>();
    let (passed, failed) = (sum(|t| t.passed), sum(|t| t.failed.len()));
    format!("{passed} passed, {failed} failed, {} skipped", sum(|t| t.skipped.len()))
}

/// Whether the run is a success: something passed, nothing failed and, where all is required, nothing was skipped.
pub fn is_success(rows: &[Row], require_all: bool) -> bool {
    let clean = |row: &Row| row.tally.failed.is_empty() && (!require_all || row.tally.skipped.is_empty());
    rows.iter().all(clean) && rows.iter().any(|row| row.tally.passed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(suite: &'static str, passed: usize, failed: &[&str], skipped: &[&str]) -> Row {
        let owned = |items: &[&str]| items.iter().map(|item| item.to_string()).collect();
        let tally = Tally { passed, failed: owned(failed), skipped: owned(skipped) };
        Row { suite, tally, took: Duration::from_millis(1250), note: String::new() }
    }

    #[test]
    fn every_failure_and_skip_is_named() {
        let text =
            render(&[row("fmt", 1, &[], &[]), row("tests", 12, &["a::b"], &["no strace", "no hugepages"])]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "suite  passed  failed  skipped   time  why");
        assert_eq!(lines[2], "fmt         1       0        0  1.2 s");
        assert_eq!(lines[3], "tests      12       1        2  1.2 s  failed: a::b");
        assert!(lines[4].ends_with("  skipped: no strace"));
        assert!(lines[5].ends_with("  skipped: no hugepages"));
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn a_long_list_is_cut_with_a_word() {
        let text = render(&[row("x", 0, &["f"; 8], &[])]);
        assert_eq!(text.matches("failed: f").count(), 5);
        assert!(text.contains("failed: 3 more, see the log"));
    }

    #[test]
    fn summary_has_the_form_that_scripts_read() {
        let rows = [row("a", 3, &[], &["w"]), row("b", 4, &["f"], &[])];
        assert_eq!(summary(&rows), "7 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn skips_count_against_a_run_that_requires_all() {
        let skips = [row("a", 3, &[], &["w"])];
        assert!(is_success(&skips, false));
        assert!(!is_success(&skips, true));
        assert!(is_success(&[row("a", 1, &[], &[])], true));
        assert!(!is_success(&[row("a", 1, &["f"], &[])], false));
    }

    #[test]
    fn a_run_in_which_nothing_passed_is_no_success() {
        assert!(!is_success(&[], false));
        assert!(!is_success(&[row("a", 0, &[], &["w"])], false));
    }

    #[test]
    fn durations() {
        assert_eq!(seconds(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(61)), "1 m 01 s");
    }
}
