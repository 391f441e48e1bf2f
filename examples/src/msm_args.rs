//! The options for MSMs of provers.

use crate::card::{CardArgs, CardsArgs, OpeningArgs};
use anyhow::Result;
use clap::Args;
use xdma::card::Card;
use xdma::msm::MsmOptions;
use xdma_arkworks::{Context, ContextOptions};
use xdma_cards::CardSource;

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
        Ok(Context::open(card, self.options(args.card.emulated().is_some(), &args.opening))?)
    }

    /// Opens a context on several cards. Returns it with the descriptions of the cards.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_cards(&self, args: &CardsArgs) -> Result<(Vec<String>, Context)> {
        let (names, cards): (Vec<_>, Vec<_>) = args.open()?.into_iter().unzip();
        let sources = names.iter().zip(cards).enumerate();
        let sources = sources.map(|(at, (name, card))| CardSource::opened(format!("{at}: {name}"), card));
        let context = Context::open_cards(sources, self.options(args.are_emulated(), &args.opening))?;
        Ok((names, context))
    }

    fn options(&self, emulated: bool, opening: &OpeningArgs) -> ContextOptions {
        ContextOptions {
            crossover: self.crossover.or(if emulated { Some(1) } else { None }),
            check_msms: self.check_msms,
            timeout_margin: opening.timeout_margin(),
            msm: MsmOptions::default(),
            ..ContextOptions::default()
        }
    }
}
