//! What the root prints.

use crate::args::Args;
use anyhow::Result;
use serde::Serialize;
use std::time::Duration;
use xdma_mpi::SumReport;

/// The output of `--json`.
#[derive(Serialize)]
pub struct Output {
    ranks: usize,
    /// Whether the cards are emulated.
    emulated: bool,
    checked: bool,
    pairs: usize,
    /// Bytes of points sent to each rank but the root, once.
    base_bytes_per_rank: usize,
    /// Seconds to send the points, to compare their digests, and to register them with all cards.
    bases_seconds: f64,
    sums: Vec<OneSum>,
}

#[derive(Serialize)]
struct OneSum {
    /// Whether halo2curves computes the same point. `null` with `--no-compare`.
    verified: Option<bool>,
    #[serde(flatten)]
    report: SumReport,
}

impl Output {
    pub fn new(args: &Args, ranks: usize, base_bytes_per_rank: usize, bases: Duration) -> Self {
        let emulated = args.card.iter().all(|card| card.emulated().is_some());
        let (checked, pairs, bases_seconds) = (args.check, args.pairs, bases.as_secs_f64());
        Self { ranks, emulated, checked, pairs, base_bytes_per_rank, bases_seconds, sums: vec![] }
    }

    pub fn add(&mut self, report: SumReport, verified: Option<bool>) {
        self.sums.push(OneSum { verified, report });
    }

    pub fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let emulated =
            if self.emulated { ", all of them emulated: times say nothing about real cards" } else { "" };
        println!("{} ranks with their cards{emulated}", self.ranks);
        println!(
            "bases: {} points, {} bytes to each rank, once, in {:.2} s",
            self.pairs, self.base_bytes_per_rank, self.bases_seconds
        );
        self.sums.iter().enumerate().for_each(|(index, sum)| sum.print(index, self.checked));
        Ok(())
    }
}

impl OneSum {
    fn print(&self, index: usize, checked: bool) {
        let SumReport { pairs, ranks, scatter_seconds, compute_seconds, reduce_seconds, .. } = &self.report;
        println!(
            "sum {index}: {pairs} pairs; scalars sent in {:.1} ms, computed in {:.1} ms, reduced in {:.3} ms",
            scatter_seconds * 1e3,
            compute_seconds * 1e3,
            reduce_seconds * 1e3
        );
        for rank in ranks {
            let cards: Vec<_> =
                rank.part.cards.iter().map(|part| format!("{} {}", part.card, part.pairs)).collect();
            println!(
                "  rank {} (host {}): {} pairs, {} bytes of scalars, {} of result; {}",
                rank.rank,
                rank.host,
                rank.part.pairs,
                rank.scalar_bytes,
                rank.result_bytes,
                cards.join(", ")
            );
            for failure in &rank.part.failures {
                println!(
                    "    card {} failed, {} pairs computed again: {}",
                    failure.card, failure.pairs, failure.cause
                );
            }
        }
        println!(
            "  {}; {}",
            match self.verified {
                Some(true) => "verified: halo2curves computes the same point",
                Some(false) => "WRONG: halo2curves computes another point",
                None => "not compared with the CPU (--no-compare)",
            },
            if checked { "each part was checked by tags" } else { "parts were not checked (--check)" }
        );
    }
}
