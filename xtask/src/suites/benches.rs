//! The figures: instructions against their limits, and the feed against a plain copy.

use super::{Level, Suite};
use crate::packages;
use anyhow::{Context, Result, ensure};

pub const SUITE: Suite = Suite {
    name: "benches",
    about: "instructions of the hot path, bandwidth of the emulated card",
    takes: 2.5,
    level: Level::Default,
    needs: &["cc"],
    wants: &["valgrind"],
    run: |run| {
        match packages::explain(&["valgrind"]) {
            None => run.check("instructions", |run| {
                let text = run.stdout(run.cargo("bench --package xdma --bench instructions"))?;
                run.note = format!("instructions: {}, ", instructions(&text)?);
                Ok(())
            }),
            Some(missing) => run.tally.skipped.push(format!("instructions: {missing}")),
        }
        run.check("feed", |run| {
            let text = run.stdout(run.cargo("bench --package xdma --bench feed"))?;
            run.note += &format!("feed {} of a copy", ratio(&text)?);
            Ok(())
        });
        Ok(())
    },
};

/// `NAME: 12.3 instructions a ...` of each case as `NAME 12.3`. The bench itself checks its limits.
fn instructions(text: &str) -> Result<String> {
    let figure = |line: &str| {
        let (name, figure) = line.split_once(": ")?;
        Some(format!("{name} {}", figure.split_once(" instructions a ")?.0))
    };
    let figures: Vec<String> = text.lines().filter_map(figure).collect();
    ensure!(!figures.is_empty(), "the bench counted nothing");
    Ok(figures.join(", "))
}

/// The word after `ratio`.
fn ratio(text: &str) -> Result<&str> {
    let rest = text.lines().find_map(|line| line.strip_prefix("ratio ")).context("no ratio was printed")?;
    rest.split(' ').next().context("no ratio was printed")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn figures_are_found() {
        let text = "a: 99.0 instructions a submit, at most 100\n    98.0  xdma::run\nb: 3.5 instructions a c, at most 4\n";
        assert_eq!(instructions(text).unwrap(), "a 99.0, b 3.5");
        assert!(instructions("nothing").is_err());
        assert_eq!(ratio("copy 9 GB/s\nratio 0.51 (target 0.5)\n").unwrap(), "0.51");
        assert!(ratio("").is_err());
    }
}
