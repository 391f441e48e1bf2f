//! The options for MSMs of provers.

use crate::card::CardArgs;
use anyhow::Result;
use clap::Args;
use xdma::card::Card;
use xdma::msm::MsmOptions;
use xdma_arkworks::{Context, ContextOptions};

/// The options for MSMs of provers.
#[derive(Args, Clone, Debug)]
pub struct MsmArgs {
    /// MSMs with fewer pairs run on the CPU [default: measured; 1 on an emulated card, which is slower than the CPU at every
    /// size].
    #[arg(long, value_name = "PAIRS")]
    pub crossover: Option<usize>,
    /// Check every MSM on the card by a second one over tagged points, which doubles the card's work.
    #[arg(long)]
    pub check_msms: bool,
}

impl MsmArgs {
    /// Opens a context on the card.
    ///
    /// # Errors
    /// If the card has no MSM design that can be used, or the crossover cannot be measured.
    pub fn open(&self, args: &CardArgs, card: &Card) -> Result<Context> {
        let emulated = args.card.emulated().is_some();
        let options = ContextOptions {
            crossover: self.crossover.or(if emulated { Some(1) } else { None }),
            check_msms: self.check_msms,
            timeout_margin: args.timeout_margin(),
            msm: MsmOptions::default(),
            ..ContextOptions::default()
        };
        Ok(Context::open(card, options)?)
    }
}
