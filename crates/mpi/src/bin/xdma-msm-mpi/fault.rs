//! Faults for tests and demonstrations.

use rustix::process::{Signal, getpid, kill_process};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use xdma_cards::Cards;
use xdma_emulated_card::emulator::EmulatedCard;
use xdma_emulated_card::emulator::faults::Kind;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed.
    Kill,
    /// The process is stopped, and so hangs.
    Stop,
    /// The main thread panics.
    Panic,
    /// Another thread panics.
    ThreadPanic,
    /// The program returns.
    Return,
    /// The process exits with code 0.
    Exit,
    /// A card loses its link while it computes.
    CardGone,
    /// A card never completes its first transfer.
    CardHung,
    /// A card computes its first part with a wrong scalar.
    CardWrong,
}

const NAMES: [(&str, Fault); 9] = [
    ("kill", Fault::Kill),
    ("stop", Fault::Stop),
    ("panic", Fault::Panic),
    ("thread-panic", Fault::ThreadPanic),
    ("return", Fault::Return),
    ("exit", Fault::Exit),
    ("card-gone", Fault::CardGone),
    ("card-hung", Fault::CardHung),
    ("card-wrong", Fault::CardWrong),
];

/// A fault of a rank.
#[derive(Clone, Copy, Debug)]
pub struct RankFault {
    pub rank: usize,
    pub fault: Fault,
}

impl FromStr for RankFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(rank, name)| {
            let fault = NAMES.iter().find(|(known, _)| *known == name)?.1;
            Some(Self { rank: rank.parse().ok()?, fault })
        });
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        parsed.ok_or_else(|| {
            format!("expected a rank and a fault, such as 2:kill; the faults are {}", names.join(", "))
        })
    }
}

impl Fault {
    /// Returns whether the fault is that of a card.
    pub fn is_of_card(self) -> bool {
        matches!(self, Self::CardGone | Self::CardHung | Self::CardWrong)
    }
}

/// Injects a fault that hits the rank before it opens its cards.
pub fn happen_at_start(fault: Option<Fault>) {
    match fault {
        Some(Fault::Panic) => panic!("--fault panic"),
        Some(Fault::Exit) => std::process::exit(0),
        _ => {}
    }
}

/// Waits until the last card computes, and then injects the fault. `emulated` is that card.
pub fn inject_while_computing(fault: Fault, cards: &Arc<Cards>, emulated: Option<Arc<EmulatedCard>>) {
    let cards = Arc::downgrade(cards);
    thread::spawn(move || {
        let computes = |cards: Arc<Cards>| cards.status().last().is_some_and(|card| card.running_pairs > 0);
        while !cards.upgrade().is_none_or(computes) {
            thread::sleep(Duration::from_millis(1));
        }
        // The fault must hit during the part. The slowed card needs longer than this for it.
        thread::sleep(Duration::from_millis(100));
        match (fault, emulated) {
            (Fault::Kill, _) => signal(Signal::KILL),
            (Fault::Stop, _) => signal(Signal::STOP),
            (Fault::ThreadPanic, _) => panic!("--fault thread-panic"),
            (Fault::CardGone, Some(card)) => {
                card.inject(Kind::LinkDown).expect("the fault concerns no channel")
            }
            _ => {}
        }
    });
}

fn signal(signal: Signal) {
    kill_process(getpid(), signal).expect("a process may signal itself");
}
