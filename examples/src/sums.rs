//! The card of provers.

use crate::card::CardArgs;
use anyhow::Result;
use clap::Args;
use xdma::card::Card;
use xdma::msm::MsmOptions;
use xdma_arkworks::{Context, Options};

/// The options of sums on the card.
#[derive(Args, Clone, Debug)]
pub struct SumArgs {
    /// Sums of fewer pairs run on the CPU [default: measured; 1 on an emulated card, which is slower than the CPU at every size].
    #[arg(long, value_name = "PAIRS")]
    pub crossover: Option<usize>,
    /// Check every sum by a second one over tagged points, which doubles the card's work.
    #[arg(long)]
    pub check_sums: bool,
}

impl SumArgs {
    /// Opens the card for sums.
    ///
    /// # Errors
    /// If the card has no MSM design.
    pub fn open(&self, args: &CardArgs, card: &Card) -> Result<Context> {
        let emulated = args.card.emulated().is_some();
        let options = Options {
            crossover: self.crossover.or(if emulated { Some(1) } else { None }),
            check_sums: self.check_sums,
            allowance: args.allowance(),
            msm: MsmOptions::default(),
            ..Options::default()
        };
        Ok(Context::open(card, options)?)
    }
}
