//! The cards of a rank.

use crate::args::Args;
use crate::fault::{Fault, inject_while_computing};
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::time::Duration;
use xdma::card::CardOptions;
use xdma::regs::Direction;
use xdma_cards::{CardSource, Cards, CardsOptions};
use xdma_emulated_card::emulator::faults::{FaultDuration, Kind, Plan};
use xdma_emulated_card::emulator::logic::{
    Design, MsmModelOptions,
    msm::{BitFlip, Window},
};
use xdma_emulated_card::emulator::{CardFile, EmulatedCard, EmulatorOptions};
use xdma_emulated_card::{connect, described, start_like};

/// Speed in pairs per second of a card with an injected fault. It is low, so that the fault hits while the card computes.
const SLOWED: f64 = 8192.0;

/// The cards of a rank.
pub struct RankCards {
    pub cards: Arc<Cards>,
    /// The emulated card that a fault hits. It stops after the cards are closed, since fields are dropped in this order.
    _faulty: Option<Arc<EmulatedCard>>,
}

/// Opens the cards of a rank.
pub fn open(args: &Args, rank: usize, fault: Option<Fault>) -> Result<RankCards> {
    let options = CardsOptions {
        check: args.check,
        min_part: args.min_part,
        timeout_margin: Duration::from_secs_f64(args.card_margin),
        ..CardsOptions::default()
    };
    let (sources, faulty) = match args.card.is_empty() {
        true => emulated(args.cards, rank, fault)?,
        false => {
            ensure!(
                !fault.is_some_and(Fault::is_of_card),
                "--fault {fault:?} needs emulated cards: use --cards"
            );
            (named(args), None)
        }
    };
    let cards = Arc::new(Cards::open(sources, options).context("cannot open this rank's cards")?);
    if let Some(fault) = fault {
        inject_while_computing(fault, &cards, faulty.clone());
    }
    Ok(RankCards { cards, _faulty: faulty })
}

fn named(args: &Args) -> Vec<CardSource> {
    let source = |choice: &xdma_emulated_card::CardChoice| {
        let open = choice.clone();
        CardSource::with(choice.to_string(), move || open.open(CardOptions::default()))
    };
    args.card.iter().map(source).collect()
}

/// Returns the emulated cards, and the card that a fault hits, which is the last one. The names contain the rank, because the
/// logs of all ranks are mixed.
fn emulated(
    count: u16,
    rank: usize,
    fault: Option<Fault>,
) -> Result<(Vec<CardSource>, Option<Arc<EmulatedCard>>)> {
    let options = CardOptions::default;
    let name = |index| format!("emulated-{rank}.{index}");
    let healthy = |index| CardSource::with(name(index), move || start_like(CardFile::f1(), options()));
    let Some(fault) = fault else { return Ok(((0..count).map(healthy).collect(), None)) };
    let faulty = Arc::new(start(fault)?);
    let card = Arc::clone(&faulty);
    let open = move || connect(&card, described(&CardFile::f1(), options()));
    let sources = (0..count - 1).map(healthy).chain([CardSource::with(name(count - 1), open)]);
    Ok((sources.collect(), Some(faulty)))
}

fn start(fault: Fault) -> Result<EmulatedCard> {
    let (mut model, mut options) = (MsmModelOptions::default(), EmulatorOptions::default());
    match fault {
        Fault::CardWrong => model.flip = Some(BitFlip { window: Window::Scalars, byte: 64, mask: 1 }),
        Fault::CardHung => {
            let hang = Kind::AxiHang(FaultDuration::Forever).on(Direction::H2C, 0);
            options.faults = Plan { faults: vec![hang] };
        }
        _ => model.pairs_per_second = Some(SLOWED),
    }
    EmulatedCard::start(options, Design::Msm(model).build()).context("cannot start an emulated card")
}
