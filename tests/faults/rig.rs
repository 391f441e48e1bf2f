//! A card with four channels in use, of which the first pair is meant to suffer.

use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardError, CardOptions};
use xdma::channel::{
    Channel, ChannelOptions, EngineError, Ring, Snapshot, SubmitError, Ticket, TransferError, WaitError,
};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma_emulator::faults::Injection;
use xdma_emulator::{EmulatedCard, Options, logic::Memory};

/// Long enough for a crowded machine.
pub const LIMIT: Duration = Duration::from_secs(20);
/// For what never ends.
pub const SHORT: Duration = Duration::from_millis(100);
pub const LEN: u64 = 20_000;

/// A channel with memory.
pub struct Lane {
    pub channel: Channel,
    pub buffer: Buffer,
    card: u64,
}

impl Lane {
    pub fn submit(&mut self) -> Result<Ticket, SubmitError> {
        self.channel.submit(&self.buffer, 0..LEN, self.card)
    }

    pub fn transfer(&mut self, limit: Duration) -> Result<(), TransferError> {
        let ticket = self.submit()?;
        Ok(self.channel.wait(ticket, limit)?)
    }

    pub fn read(&self) -> Vec<u8> {
        let mut seen = vec![0; LEN as usize];
        self.buffer.read(0, &mut seen).unwrap();
        seen
    }
}

pub struct Rig {
    // Lanes go before the card, and the card before what serves it.
    pub h2c: Vec<Lane>,
    pub c2h: Vec<Lane>,
    pub card: Card,
    pub emulated: EmulatedCard,
    seed: u8,
}

impl Rig {
    /// With a function that can be reset.
    pub fn new(ring: Ring) -> Self {
        Self::with(ring, true)
    }

    pub fn with(ring: Ring, function_reset: bool) -> Self {
        let options = Options { function_reset, ..Options::default() };
        let emulated = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap();
        let card = open(&emulated).unwrap();
        let lane = |direction, index| Lane {
            channel: card
                .channel(
                    direction,
                    index,
                    ChannelOptions { ring: Some(ring), interrupt: true, ..Default::default() },
                )
                .unwrap(),
            buffer: card.allocate(LEN, direction).unwrap(),
            card: 0x10_0003 * (index as u64 + 1),
        };
        let lanes = |direction| (0..2).map(|index| lane(direction, index)).collect();
        Self { h2c: lanes(Direction::H2C), c2h: lanes(Direction::C2H), card: card.clone(), emulated, seed: 0 }
    }

    pub fn inject(&self, injection: impl Into<Injection>) {
        self.emulated.inject(injection).unwrap();
    }

    /// Returns how often a fault was injected.
    pub fn injected(&self, name: &str) -> u64 {
        self.emulated.injected_faults().get(name).copied().unwrap_or(0)
    }

    pub fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::H2C => &mut self.h2c[0],
            Direction::C2H => &mut self.c2h[0],
        }
    }

    /// New data for the card, from a lane of that number.
    pub fn fill(&mut self, index: usize) -> Vec<u8> {
        self.seed += 1;
        let data: Vec<u8> =
            (0..LEN).map(|at| (at * 7 + at / 251) as u8 ^ self.seed.wrapping_mul(41)).collect();
        self.h2c[index].buffer.write(0, &data).unwrap();
        data
    }

    /// There and back on a pair of channels, with the right bytes.
    #[track_caller]
    pub fn pair_works(&mut self, index: usize) {
        let data = self.fill(index);
        self.h2c[index].transfer(LIMIT).unwrap();
        self.c2h[index].transfer(LIMIT).unwrap();
        assert!(self.c2h[index].read() == data, "the data is not what was sent");
    }

    /// The pair that is not meant to suffer goes on.
    #[track_caller]
    pub fn others_work(&mut self) {
        self.pair_works(1);
    }

    #[track_caller]
    pub fn works(&mut self) {
        (0..3).for_each(|_| self.pair_works(0));
        self.others_work();
    }

    /// After the card was reset or brought back: each channel says so, and works again once recovered.
    #[track_caller]
    pub fn recover_all(&mut self) {
        for lane in self.h2c.iter_mut().chain(&mut self.c2h) {
            let told = lane.channel.check().unwrap_err();
            assert!(matches!(told, EngineError::Reset { .. }), "{told}");
            let again = lane.submit().unwrap_err();
            assert!(matches!(again.engine(), Some(EngineError::Reset { .. })), "until it is recovered");
            lane.channel.recover().unwrap();
        }
        self.works();
    }

    /// The card noticed nothing that the driver did wrong.
    #[track_caller]
    pub fn end(self) {
        let Self { h2c, c2h, card, emulated, .. } = self;
        drop((h2c, c2h, card));
        let violations = emulated.violations();
        assert!(violations.is_empty(), "{violations:?}");
    }
}

pub fn open(emulated: &EmulatedCard) -> Result<Card, CardError> {
    xdma_emulated_card::connect(emulated, CardOptions { idle_limit: 2 * SHORT, ..CardOptions::default() })
}

/// The registers when a transfer failed, and that the channel stays so until it is recovered.
#[track_caller]
pub fn failed(lane: &mut Lane) -> Snapshot {
    let first = lane.transfer(LIMIT).unwrap_err();
    let again = lane.submit().unwrap_err();
    assert!(matches!(again.engine(), Some(EngineError::Failed { .. })), "it has failed");
    match first.engine() {
        Some(EngineError::Failed { snapshot }) => Snapshot::clone(snapshot),
        _ => panic!("{first}"),
    }
}

#[track_caller]
pub fn is_deadline<T: std::fmt::Debug>(result: Result<T, impl Into<TransferError>>) {
    let error = result.map_err(Into::into).unwrap_err();
    assert!(matches!(error, TransferError::Wait(WaitError::Deadline { .. })), "{error}");
}

#[track_caller]
pub fn is_hung(result: Result<(), EngineError>) {
    assert!(matches!(result, Err(EngineError::Hung { .. })), "{result:?}");
}

#[track_caller]
pub fn is_gone<T: std::fmt::Debug>(result: Result<T, impl Into<TransferError>>) {
    let error = result.map_err(Into::into).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{error}");
}

/// Does something that must not take the time of a limit.
#[track_caller]
pub fn at_once<T>(what: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = what();
    assert!(begin.elapsed() < LIMIT / 4, "it took {:?}", begin.elapsed());
    result
}
