//! The figures: instructions against their limits, and the feed against a plain copy.

use super::{Level, Suite};
use anyhow::ensure;

pub const SUITE: Suite = Suite {
    name: "benches",
    about: "instructions of the hot path, bandwidth of the emulated card",
    takes: 2.5,
    level: Level::Default,
    needs: &["cc", "valgrind"],
    run: |run| {
        for bench in ["instructions", "feed"] {
            run.check(bench, |run| {
                let text = run.stdout(run.cargo(&format!("bench --package xdma --bench {bench}")))?;
                let figures = figures(&text);
                ensure!(!figures.is_empty(), "the bench measured nothing");
                run.notes.extend(figures);
                Ok(())
            });
        }
        Ok(())
    },
};

/// The lines `NAME: 12.3 instructions a ...` and `ratio ...`. The bench itself checks its limits.
fn figures(text: &str) -> Vec<String> {
    let is_count =
        |line: &str| line.split_once(": ").is_some_and(|(_, rest)| rest.contains(" instructions a "));
    text.lines().filter(|line| line.starts_with("ratio ") || is_count(line)).map(String::from).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn figures_are_found() {
        let counts = "a: 99.0 instructions a submit, at most 100\n    98.0  xdma::run\n";
        assert_eq!(figures(counts), ["a: 99.0 instructions a submit, at most 100"]);
        assert_eq!(figures("copy 9 GB/s\nratio 0.51 (target 0.5)\n"), ["ratio 0.51 (target 0.5)"]);
    }
}
