//! A card with memory or the MSM design behind it, watched for broken rules.
//!
//! Mostly it is an emulated card in this process. In a virtual machine it is the PCI function that `XDMA_CARD` names, an
//! emulated card too, which takes orders at the serial line `XDMA_TEST_CONTROL`; its profile, and whether it can be reset,
//! were decided when the machine was started.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use xdma::card::Companions;
use xdma::card::{Card, CardError, CardName, CardOptions};
use xdma::channel::{Channel, Stats};
use xdma::regs::Direction;
use xdma_emulator::control::{Client, Log, Request};
use xdma_emulator::faults::{Injection, Kind};
use xdma_emulator::logic::Design;
use xdma_emulator::{EmulatedCard, Options, Profile};

/// Long enough for a crowded machine.
pub const LIMIT: Duration = Duration::from_secs(20);

/// An emulated card; dropping it checks that the driver broke no rule.
pub struct Bench {
    place: Place,
}

enum Place {
    Here(EmulatedCard),
    There { name: CardName, control: Arc<Mutex<Client>> },
}

/// The line to the card's process, if the card is not in this one.
fn control() -> Option<Client> {
    let path = std::env::var_os("XDMA_TEST_CONTROL")?;
    Some(Client::open(Path::new(&path)).expect("the control line is there"))
}

/// The profiles that a card can have here.
pub fn profiles() -> Vec<Profile> {
    match control() {
        None => vec![Profile::F1, Profile::Alveo],
        Some(mut control) => vec![control.options().expect("the card answers").profile],
    }
}

impl Bench {
    pub fn new(options: Options, design: Design) -> Self {
        let Some(mut control) = control() else {
            let card = EmulatedCard::start(options, design.build());
            return Self { place: Place::Here(card.expect("an emulated card starts anywhere")) };
        };
        let Options { profile, function_reset, .. } = control.options().expect("the card answers");
        let options = Box::new(Options { profile, function_reset, ..options });
        // A test that failed may have left it down.
        control.ask(Request::Inject(Kind::LinkUp.into())).expect("the card has a link");
        control.ask(Request::Load { options, design }).expect("the card takes an image");
        let name: CardName =
            std::env::var("XDMA_CARD").expect("the card is named").parse().expect("that is a card");
        let control = Arc::new(Mutex::new(control));
        Self { place: Place::There { name, control } }
    }

    pub fn memory(options: Options) -> Self {
        Self::new(options, Design::Memory)
    }

    pub fn open(&self) -> Card {
        self.try_open(CardOptions::default()).expect("the card is there and free")
    }

    /// For a test whose engine is never idle.
    pub fn open_impatient(&self) -> Card {
        let idle_limit = Duration::from_millis(500);
        self.try_open(CardOptions { idle_limit, ..CardOptions::default() })
            .expect("the card is there and free")
    }

    pub fn try_open(&self, options: CardOptions) -> Result<Card, CardError> {
        match &self.place {
            Place::Here(card) => xdma_emulated_card::connect(card, options),
            Place::There { name, control } => {
                let witness = Some(xdma_emulated_card::remote_witness(control.clone()));
                name.open_with(options, Companions { witness, model: None })
            }
        }
    }

    /// How another process names it.
    pub fn name(&self) -> CardName {
        match &self.place {
            Place::Here(card) => CardName::Socket(card.socket().into()),
            Place::There { name, .. } => name.clone(),
        }
    }

    /// Its socket, for tests that need one.
    pub fn socket(&self) -> &Path {
        match &self.place {
            Place::Here(card) => card.socket(),
            Place::There { name, .. } => panic!("{name} has no socket here"),
        }
    }

    /// The card's options: those that were requested, except that a card in a virtual machine keeps its own profile and reset support.
    pub fn options(&self) -> Options {
        match &self.place {
            Place::Here(card) => card.options(),
            Place::There { control, .. } => lock(control).options().expect("the card answers"),
        }
    }

    pub fn inject(&self, injection: impl Into<Injection>) {
        let injection = injection.into();
        match &self.place {
            Place::Here(card) => card.inject(injection).expect("the card has this channel"),
            Place::There { control, .. } => {
                lock(control).ask(Request::Inject(injection)).expect("the card has this channel");
            }
        }
    }

    /// What the card noticed.
    pub fn log(&self) -> Log {
        match &self.place {
            Place::Here(card) => {
                let (violations, faults) = (card.violations(), card.faults());
                Log { violations, faults, counters: card.counters(), struck: card.struck() }
            }
            Place::There { control, .. } => lock(control).log().expect("the card answers"),
        }
    }
}

fn lock(control: &Mutex<Client>) -> MutexGuard<'_, Client> {
    control.lock().expect("no test goes on after a panic")
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let violations: Vec<_> = self.log().violations.iter().map(ToString::to_string).collect();
            assert!(violations.is_empty(), "the driver broke rules: {violations:#?}");
        }
    }
}

/// Bytes go there and come back on the first channel of each direction.
#[track_caller]
pub fn works(card: &Card) {
    let data = pattern(100_000, 4);
    let (mut h2c, mut c2h) = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let mut source = card.allocate(100_000, Direction::H2C).unwrap();
    source.write(0, &data).unwrap();
    let sink = card.allocate(100_000, Direction::C2H).unwrap();
    h2c.transfer(&source, 0..100_000, 0x77, LIMIT).unwrap();
    c2h.transfer(&sink, 0..100_000, 0x77, LIMIT).unwrap();
    let mut seen = vec![0; 100_000];
    sink.read(0, &mut seen).unwrap();
    assert!(seen == data);
}

/// Sleeps that no interrupt ended are the exception. On a crowded machine an interrupt may come late, but most do not.
pub fn assert_few_missed<'a>(channels: impl IntoIterator<Item = &'a Channel>) {
    for channel in channels {
        let Stats { sleeps, missed, .. } = channel.stats();
        assert!(missed * 2 <= sleeps, "{:?}: {missed} of {sleeps} interrupts missed", channel.options());
    }
}

/// Bytes that differ from page to page.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}
