//! The printed tables, and the condition for success.

use comfy_table::{Cell, CellAlignment, Table, presets};
use std::fmt;
use std::time::Duration;

/// Results of checks, with names and reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Checks that passed.
    pub passed: usize,
    /// Name and reason of each failed check.
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

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {} failed, {} skipped", failed.len(), skipped.len())
    }
}

/// The result of a suite.
pub struct Row {
    pub suite: &'static str,
    pub tally: Tally,
    pub took: String,
    /// Measurements of the suite, such as counts or sizes.
    pub notes: Vec<String>,
}

/// The number of failures or skips shown in the table for each suite. The log contains all of them.
const MAX_SHOWN: usize = 5;

/// Returns an empty table.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    table
}

/// Returns the table of results, one row per suite, with one line for each failed check and each skip.
pub fn results(rows: &[Row]) -> Table {
    let mut table = table(&["suite", "passed", "failed", "skipped", "time", "why"]);
    for Row { suite, tally, took, notes } in rows {
        let counts = [tally.passed, tally.failed.len(), tally.skipped.len()].map(|count| count.to_string());
        let right = |text: &String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut cells = vec![Cell::new(suite)];
        cells.extend(counts.iter().chain([took]).map(right));
        cells.push(Cell::new(reasons(tally, notes)));
        table.add_row(cells);
    }
    table
}

fn reasons(tally: &Tally, notes: &[String]) -> String {
    let mut lines = notes.to_vec();
    for (word, items) in [("failed", &tally.failed), ("skipped", &tally.skipped)] {
        lines.extend(items.iter().take(MAX_SHOWN).map(|item| format!("{word}: {item}")));
        if let more @ 1.. = items.len().saturating_sub(MAX_SHOWN) {
            lines.push(format!("{word}: {more} more, see the log"));
        }
    }
    lines.join("\n")
}

/// Formats a duration as `1.2 s` or `1 m 01 s`.
pub fn duration(took: Duration) -> String {
    match took.as_secs() {
        0..60 => format!("{:.1} s", took.as_secs_f64()),
        whole => format!("{} m {:02} s", whole / 60, whole % 60),
    }
}

/// Returns the sum of all results.
pub fn total(rows: &[Row]) -> Tally {
    let mut total = Tally::default();
    rows.iter().for_each(|row| total.add(row.tally.clone()));
    total
}

/// Returns whether at least one check passed, none failed and, with `require_all`, none was skipped.
pub fn is_success(total: &Tally, require_all: bool) -> bool {
    total.passed > 0 && total.failed.is_empty() && (!require_all || total.skipped.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(suite: &'static str, passed: usize, failed: &[&str], skipped: &[&str]) -> Row {
        let owned = |items: &[&str]| items.iter().map(|item| item.to_string()).collect();
        let tally = Tally { passed, failed: owned(failed), skipped: owned(skipped) };
        Row { suite, tally, took: "1.2 s".into(), notes: vec![] }
    }

    #[test]
    fn failures_and_skips_are_listed_up_to_a_limit() {
        let rows = [row("fmt", 1, &["f"; 8], &[]), row("tests", 12, &["a::b"], &["no strace", "no memory"])];
        let text = results(&rows).to_string();
        assert!(text.contains("| tests |     12 |      1 |       2 | 1.2 s | failed: a::b"), "{text}");
        assert!(text.contains("| skipped: no strace ") && text.contains("| skipped: no memory "), "{text}");
        assert_eq!(text.matches("failed: f ").count(), 5);
        assert!(text.contains("failed: 3 more, see the log"));
    }

    #[test]
    fn success_needs_a_pass_and_no_failure() {
        let total = total(&[row("a", 3, &[], &["w"]), row("b", 4, &["f"], &[])]);
        assert_eq!(total.to_string(), "7 passed, 1 failed, 1 skipped");
        let skips = Tally { failed: vec![], ..total.clone() };
        assert!(is_success(&skips, false) && !is_success(&skips, true));
        assert!(!is_success(&total, false) && !is_success(&Tally::default(), false));
    }

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(61)), "1 m 01 s");
    }
}
