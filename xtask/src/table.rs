//! The tables that are printed, and what counts as success.

use comfy_table::{Cell, CellAlignment, Table, presets};
use std::time::Duration;

/// Counts of checks, with names and reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Checks that passed.
    pub passed: usize,
    /// The name of each failed check, and why it failed.
    pub failed: Vec<String>,
    /// The reason of each skip.
    pub skipped: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}

/// The result of a suite.
#[derive(Clone, Debug)]
pub struct Row {
    pub suite: &'static str,
    pub tally: Tally,
    pub took: String,
    /// Something the suite measured, such as a count or a size.
    pub note: String,
}

/// Reasons and names shown in the table; the log has them all.
const SHOWN: usize = 5;

/// An empty table.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    table
}

/// One line a suite, with names of failed checks and reasons of skips below each other.
pub fn results(rows: &[Row]) -> Table {
    let mut table = table(&["suite", "passed", "failed", "skipped", "time", "why"]);
    for Row { suite, tally, took, note } in rows {
        let counts = [tally.passed, tally.failed.len(), tally.skipped.len()].map(|count| count.to_string());
        let right = |text: &String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut cells = vec![Cell::new(suite)];
        cells.extend(counts.iter().chain([took]).map(right));
        cells.push(Cell::new(reasons(tally, note)));
        table.add_row(cells);
    }
    table
}

fn reasons(tally: &Tally, note: &str) -> String {
    let mut lines: Vec<String> = (!note.is_empty()).then(|| note.to_string()).into_iter().collect();
    for (word, items) in [("failed", &tally.failed), ("skipped", &tally.skipped)] {
        lines.extend(items.iter().take(SHOWN).map(|item| format!("{word}: {item}")));
        if let more @ 1.. = items.len().saturating_sub(SHOWN) {
            lines.push(format!("{word}: {more} more, see the log"));
        }
    }
    lines.join("\n")
}

/// A duration for a reader: `1.2 s` or `1 m 01 s`.
pub fn duration(took: Duration) -> String {
    match took.as_secs() {
        0..60 => format!("{:.1} s", took.as_secs_f64()),
        whole => format!("{} m {:02} s", whole / 60, whole % 60),
    }
}

/// The line of totals, which scripts read.
pub fn summary(rows: &[Row]) -> String {
    let mut sum = Tally::default();
    rows.iter().for_each(|row| sum.add(row.tally.clone()));
    format!("{} passed, {} failed, {} skipped", sum.passed, sum.failed.len(), sum.skipped.len())
}

/// Whether something passed, nothing failed and, with `require_all`, nothing was skipped.
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
        Row { suite, tally, took: "1.2 s".into(), note: String::new() }
    }

    #[test]
    fn every_failure_and_skip_is_named() {
        let rows = [row("fmt", 1, &[], &[]), row("tests", 12, &["a::b"], &["no strace", "no hugepages"])];
        let text = results(&rows).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[3], "| tests |     12 |      1 |       2 | 1.2 s | failed: a::b          |");
        assert!(lines[4].contains("| skipped: no strace") && lines[5].contains("| skipped: no hugepages"));
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn a_long_list_is_cut() {
        let text = results(&[row("x", 0, &["f"; 8], &[])]).to_string();
        assert_eq!(text.matches("failed: f").count(), 5);
        assert!(text.contains("failed: 3 more, see the log"));
    }

    #[test]
    fn the_summary_has_the_form_that_scripts_read() {
        let rows = [row("a", 3, &[], &["w"]), row("b", 4, &["f"], &[])];
        assert_eq!(summary(&rows), "7 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn success_needs_a_pass_and_no_failure() {
        let skips = [row("a", 3, &[], &["w"])];
        assert!(is_success(&skips, false) && !is_success(&skips, true));
        assert!(is_success(&[row("a", 1, &[], &[])], true));
        assert!(!is_success(&[row("a", 1, &["f"], &[])], false));
        assert!(!is_success(&[], false) && !is_success(&[row("a", 0, &[], &["w"])], false));
    }

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(61)), "1 m 01 s");
    }
}
