//! The cards of a rank.

use crate::args::Args;
use crate::fault::{Fault, inject_while_computing};
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::time::Duration;
use xdma::card::CardOptions;
use xdma::regs::Direction;
use xdma_cards::{CardSource, Cards, CardsOptions};
use xdma_emulated_card::described;
use xdma_emulated_card::emulator::faults::{FaultDuration, Kind, Plan};
use xdma_emulated_card::emulator::logic::{
    Design, MsmModelOptions,
    msm::{BitFlip, Window},
};
use xdma_emulated_card::emulator::{CardFile, EmulatedCard, EmulatorOptions};

/// Pairs per second of a card that a fault hits while it computes.
const SLOWED: f64 = 8192.0;

/// Opens the cards of a rank.
pub fn open(args: &Args, rank: usize, fault: Option<Fault>) -> Result<Arc<Cards>> {
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
        inject_while_computing(fault, &cards, faulty);
    }
    Ok(cards)
}

fn named(args: &Args) -> Vec<CardSource> {
    let source = |choice: &xdma_emulated_card::CardChoice| {
        let open = choice.clone();
        CardSource::with(choice.to_string(), move || open.open(CardOptions::default()))
    };
    args.card.iter().map(source).collect()
}

/// Returns emulated cards, and the one that a fault hits. Their names contain the rank, since logs of all ranks are mixed.
fn emulated(
    count: u16,
    rank: usize,
    fault: Option<Fault>,
) -> Result<(Vec<CardSource>, Option<Arc<EmulatedCard>>)> {
    let (mut sources, mut faulty) = (vec![], None);
    for index in 0..count {
        let fault = fault.filter(|_| index + 1 == count);
        let card = Arc::new(start(fault)?);
        if fault.is_some() {
            faulty = Some(Arc::clone(&card));
        }
        let options = described(&CardFile::f1(), CardOptions::default());
        let open = move || xdma_emulated_card::connect(&card, options.clone());
        sources.push(CardSource::with(format!("emulated-{rank}.{index}"), open));
    }
    Ok((sources, faulty))
}

fn start(fault: Option<Fault>) -> Result<EmulatedCard> {
    let (mut model, mut options) = (MsmModelOptions::default(), EmulatorOptions::default());
    match fault {
        Some(Fault::CardWrong) => model.flip = Some(BitFlip { window: Window::Scalars, byte: 64, mask: 1 }),
        Some(Fault::CardHung) => {
            let hang = Kind::AxiHang(FaultDuration::Forever).on(Direction::H2C, 0);
            options.faults = Plan { faults: vec![hang] };
        }
        Some(_) => model.pairs_per_second = Some(SLOWED),
        None => {}
    }
    EmulatedCard::start(options, Design::Msm(model).build()).context("cannot start an emulated card")
}
