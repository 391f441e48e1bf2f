//! Benchmarks with limits: instruction counts, and with `--full` also scaling and the bandwidth of feeding the emulated card.

use super::{Level, Suite};
use crate::run::Run;
use anyhow::{Result, ensure};

pub const SUITE: Suite = Suite {
    name: "benches",
    about: "instruction counts of the hot path; with --full also scaling, and the bandwidth of the emulated card",
    minutes: 2.8,
    level: Level::Default,
    needs: &["cc", "valgrind"],
    run: |run| {
        run.check("instructions", |run| bench(run, "xdma-instructions", "instructions"));
        if run.level == Level::Full {
            run.check("growth", |run| bench(run, "xdma-instructions", "growth"));
            run.check("feed", |run| bench(run, "xdma", "feed"));
        }
        Ok(())
    },
};

fn bench(run: &mut Run, package: &str, name: &str) -> Result<()> {
    let text = run.stdout(run.cargo(&format!("bench --package {package} --bench {name}")))?;
    let figures = figures(&text);
    ensure!(!figures.is_empty(), "the bench measured nothing");
    run.notes.extend(figures);
    Ok(())
}

/// Returns the lines `NAME: 12.3 instructions a ...`, and the lines with a ratio. The bench itself checks its limits.
fn figures(text: &str) -> Vec<String> {
    let is_count =
        |line: &str| line.split_once(": ").is_some_and(|(_, rest)| rest.contains(" instructions a "));
    let is_figure = |line: &&str| line.starts_with("ratio ") || line.contains("; ratio ") || is_count(line);
    text.lines().filter(is_figure).map(String::from).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn figures_are_found() {
        assert_eq!(figures("a: 9.0 instructions a run\n    8.0  xdma::run\n"), ["a: 9.0 instructions a run"]);
        assert_eq!(figures("copy 9 GB/s\nratio 0.51 (target 0.5)\n"), ["ratio 0.51 (target 0.5)"]);
    }
}
