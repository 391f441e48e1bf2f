//! A test bench: an emulated card with any user logic, which checks that the driver obeys the card's rules.
//!
//! On a host, the card is emulated in this process. In a virtual machine, it is the PCI function `XDMA_CARD`, which is emulated
//! outside of the machine and controlled over the serial line `XDMA_TEST_CONTROL`. Its PCI function is then fixed when
//! the machine is started.

use crate::board::like;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use xdma::card::{Card, CardError, CardName, CardOptions};
use xdma::channel::{Channel, Stats};
use xdma::regs::Direction;
use xdma::unstable::card::Companions;
use xdma_emulator::control::{ControlClient, Log, Request};
use xdma_emulator::faults::{BadCompletion, Injection, Kind};
use xdma_emulator::logic::Design;
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions};

/// Time limit for operations that should succeed. It leaves room for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);

/// An emulated card. Dropping it checks that the driver violated no rule.
pub struct Bench {
    location: Location,
}

enum Location {
    /// In this process.
    Local(EmulatedCard),
    /// Outside of this virtual machine.
    Remote { name: CardName, control: Arc<Mutex<ControlClient>> },
}

/// Opens the control line of a remote card. `None` if the card is local.
fn control() -> Option<ControlClient> {
    let path = std::env::var_os("XDMA_TEST_CONTROL")?;
    Some(ControlClient::open(Path::new(&path)).expect("the control line can be opened"))
}

/// Returns the cards that a test runs on: two different ones in this process, or the card of the virtual machine.
pub fn cards() -> Vec<CardFile> {
    match control() {
        None => vec![CardFile::f1(), CardFile::alveo()],
        Some(mut control) => vec![control.options().expect("the card responds").card],
    }
}

/// Whether the engine is a simulated one.
const IS_SIMULATED: bool = cfg!(any(feature = "rtl-dma", feature = "rtl-f2"));

/// Returns the kind of bad completion that the engine reports. The bridge of the simulated engine answers all kinds with SLVERR, which
/// the engine reports as an unsupported request.
pub fn reported(with: BadCompletion) -> BadCompletion {
    if IS_SIMULATED { BadCompletion::UnsupportedRequest } else { with }
}

impl Bench {
    pub fn new(options: EmulatorOptions, design: Design) -> Self {
        let Some(mut control) = control() else {
            let options = EmulatorOptions { card: like(options.card), ..options };
            #[cfg(not(feature = "rtl-dma"))]
            let card = EmulatedCard::start(options, design.build());
            #[cfg(feature = "rtl-dma")]
            let card = EmulatedCard::start_rtl_dma(options, design.build());
            return Self { location: Location::Local(card.expect("an emulated card can be started")) };
        };
        let served = control.options().expect("the card responds").card;
        let card = CardFile { function: served.function, bars: served.bars, ..options.card };
        let options = EmulatorOptions { card, ..options };
        // A failed test may have left the link down.
        control.call(Request::Inject(Kind::LinkUp.into())).expect("the card has a link");
        control.call(Request::load(&options, design)).expect("the card loads the image");
        let name: CardName =
            std::env::var("XDMA_CARD").expect("XDMA_CARD is set").parse().expect("XDMA_CARD names a card");
        let control = Arc::new(Mutex::new(control));
        Self { location: Location::Remote { name, control } }
    }

    pub fn memory(options: EmulatorOptions) -> Self {
        Self::new(options, Design::Memory)
    }

    /// Opens the card with default options.
    pub fn open(&self) -> Card {
        self.try_open(CardOptions::default()).expect("the card can be opened")
    }

    /// Opens the card with a short idle limit, for tests in which an engine never becomes idle. The limit is longer for a simulated engine,
    /// which takes longer to become idle.
    pub fn open_with_short_idle_limit(&self) -> Card {
        let idle_limit = Duration::from_millis(if IS_SIMULATED { 1500 } else { 500 });
        self.try_open(CardOptions { idle_limit, ..CardOptions::default() }).expect("the card can be opened")
    }

    pub fn try_open(&self, options: CardOptions) -> Result<Card, CardError> {
        match &self.location {
            Location::Local(card) => {
                let user_bar = options.user_bar.or(card.options().card.user_bar());
                xdma_emulated_card::connect(card, CardOptions { user_bar, ..options })
            }
            Location::Remote { name, control } => {
                let observer = Some(xdma_emulated_card::remote_observer(control.clone()));
                xdma::unstable::card::open(name, options, Companions { observer, model: None })
            }
        }
    }

    /// Returns the name by which another process can open the card.
    pub fn name(&self) -> CardName {
        match &self.location {
            Location::Local(card) => CardName::Socket(card.socket().into()),
            Location::Remote { name, .. } => name.clone(),
        }
    }

    /// Returns the socket of a local card.
    pub fn socket(&self) -> &Path {
        match &self.location {
            Location::Local(card) => card.socket(),
            Location::Remote { name, .. } => panic!("{name} has no socket"),
        }
    }

    /// Returns the card's options. A remote card keeps its own PCI function, whatever was requested.
    pub fn options(&self) -> EmulatorOptions {
        match &self.location {
            Location::Local(card) => card.options(),
            Location::Remote { control, .. } => lock(control).options().expect("the card responds"),
        }
    }

    pub fn inject(&self, injection: impl Into<Injection>) {
        let injection = injection.into();
        match &self.location {
            Location::Local(card) => card.inject(injection).expect("the card has this channel"),
            Location::Remote { control, .. } => {
                lock(control).call(Request::Inject(injection)).expect("the card has this channel");
            }
        }
    }

    /// Returns the card's log.
    pub fn log(&self) -> Log {
        match &self.location {
            Location::Local(card) => {
                let (violations, dma_faults) = (card.violations(), card.dma_faults());
                Log { violations, dma_faults, counters: card.counters(), injected: card.injected_faults() }
            }
            Location::Remote { control, .. } => lock(control).log().expect("the card responds"),
        }
    }
}

fn lock(control: &Mutex<ControlClient>) -> MutexGuard<'_, ControlClient> {
    control.lock().expect("no test continues after a panic")
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let violations: Vec<_> = self.log().violations.iter().map(ToString::to_string).collect();
            assert!(violations.is_empty(), "the driver violated rules of the card: {violations:#?}");
        }
    }
}

/// Checks that the card works: sends bytes and reads them back on the first channel of each direction.
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

/// Checks that most sleeps ended by an interrupt. A few may miss it, since an interrupt can be late on a busy machine.
pub fn assert_few_missed<'a>(channels: impl IntoIterator<Item = &'a Channel>) {
    for channel in channels {
        let Stats { sleeps, missed, .. } = channel.stats();
        assert!(missed * 2 <= sleeps, "{:?}: {missed} of {sleeps} interrupts missed", channel.options());
    }
}

/// Returns pseudo-random bytes, which differ from page to page.
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
