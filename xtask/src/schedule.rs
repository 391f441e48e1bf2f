//! Selects suites, runs them in parallel or in sequence, and prints the results.

use crate::suites::{Lane, Level, Stage, Suite, all};
use crate::table::{self, Row};
use crate::workspace::Workspace;
use crate::{packages, run};
use anyhow::Result;
use std::thread;

/// Runs the named suites, or else the suites of the level, and prints the table. Returns whether the run succeeded.
pub fn run_all(stages: &'static [Stage], level: Level, require_all: bool, names: &[String]) -> Result<bool> {
    let is_selected = |suite: &Suite| match names {
        [] => suite.level <= level,
        names => names.iter().any(|name| name == suite.name),
    };
    let selected = || all(stages).filter(|suite| is_selected(suite));
    let programs: Vec<_> = selected().flat_map(|suite| suite.needs).copied().collect();
    let missing = packages::describe_missing(&programs);
    missing.iter().for_each(|missing| println!("{missing}\n"));

    let workspace = Workspace::find();
    let run_lane = |lane: Lane| {
        let suites = lane.iter().filter(|suite| is_selected(suite));
        suites.map(|suite| run::run_suite(&workspace, level, suite)).collect::<Vec<_>>()
    };
    let run_stage = |stage: &Stage| -> Vec<Result<Row>> {
        thread::scope(|scope| {
            let lanes: Vec<_> = stage.iter().map(|&lane| scope.spawn(move || run_lane(lane))).collect();
            lanes.into_iter().flat_map(|lane| lane.join().expect("a suite panicked")).collect()
        })
    };
    let rows = stages.iter().flat_map(run_stage).collect::<Result<Vec<Row>>>()?;
    println!("\n{}", table::results(&rows));
    missing.iter().for_each(|missing| println!("\n{missing}"));
    if names.is_empty() {
        print!("{}", left_out(stages, level));
    }
    let total = table::total(&rows);
    println!("\n{total}");
    Ok(table::is_success(&total, require_all))
}

/// Lists the suites that the level leaves out.
fn left_out(stages: &'static [Stage], level: Level) -> String {
    let line = |s: &Suite| format!("\nleft out: {} ({} minutes): {}", s.name, s.minutes, s.about);
    all(stages).filter(|suite| suite.level > level).map(line).collect::<String>() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suites::SUITES;

    #[test]
    fn a_quick_run_lists_what_it_leaves_out() {
        let text = left_out(SUITES, Level::Quick);
        for name in ["hdl", "rtl", "vm", "benches", "docs", "publish", "counts", "release"] {
            assert!(text.contains(&format!("left out: {name} (")), "{name}");
        }
        assert_eq!(left_out(SUITES, Level::Full), "\n");
    }
}
