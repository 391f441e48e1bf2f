//! A card with two pairs of channels in use. Faults are injected into the first pair.

use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardError, CardOptions};
use xdma::channel::{
    Channel, ChannelOptions, EngineError, Ring, Snapshot, SubmitError, Ticket, TransferError, Wait, WaitError,
};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma_emulator::faults::Injection;
use xdma_emulator::{EmulatedCard, EmulatorOptions, logic::Memory};

/// Time limit for operations that should succeed. It leaves room for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);
/// Time limit for operations that never end.
pub const SHORT: Duration = Duration::from_millis(100);
pub const LEN: u64 = 20_000;

/// A channel with a buffer.
pub struct RigChannel {
    pub channel: Channel,
    pub buffer: Buffer,
    /// Card address of its transfers.
    address: u64,
}

impl RigChannel {
    pub fn submit(&mut self) -> Result<Ticket, SubmitError> {
        self.channel.submit(&self.buffer, 0..LEN, self.address)
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
    // Fields are dropped in order: channels before the card, the card before the emulated card that serves it.
    pub h2c: Vec<RigChannel>,
    pub c2h: Vec<RigChannel>,
    pub card: Card,
    pub emulated: EmulatedCard,
    seed: u8,
}

impl Rig {
    /// Starts a card whose function can be reset.
    pub fn new(ring: Ring) -> Self {
        Self::with(ring, true)
    }

    pub fn with(ring: Ring, function_reset: bool) -> Self {
        let options = EmulatorOptions::default().with_function_reset(function_reset);
        let emulated = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap();
        let card = open(&emulated).unwrap();
        // Waits do not sleep, because the tests of interrupts take the interrupts themselves.
        let options = ChannelOptions {
            ring: Some(ring),
            wait: Wait::SpinThenYield,
            interrupt: true,
            ..Default::default()
        };
        let channel = |direction, index| RigChannel {
            channel: card.channel(direction, index, options).unwrap(),
            buffer: card.allocate(LEN, direction).unwrap(),
            address: 0x10_0003 * (index as u64 + 1),
        };
        let channels = |direction| (0..2).map(|index| channel(direction, index)).collect();
        Self {
            h2c: channels(Direction::H2C),
            c2h: channels(Direction::C2H),
            card: card.clone(),
            emulated,
            seed: 0,
        }
    }

    pub fn inject(&self, injection: impl Into<Injection>) {
        self.emulated.inject(injection).unwrap();
    }

    /// Returns how often a fault was injected.
    pub fn injected(&self, name: &str) -> u64 {
        self.emulated.injected_faults().get(name).copied().unwrap_or(0)
    }

    /// Returns a channel of the first pair.
    pub fn channel(&mut self, direction: Direction) -> &mut RigChannel {
        match direction {
            Direction::H2C => &mut self.h2c[0],
            Direction::C2H => &mut self.c2h[0],
        }
    }

    /// Fills an H2C buffer with new data, and returns it.
    pub fn fill(&mut self, index: usize) -> Vec<u8> {
        self.seed += 1;
        let data: Vec<u8> =
            (0..LEN).map(|at| (at * 7 + at / 251) as u8 ^ self.seed.wrapping_mul(41)).collect();
        self.h2c[index].buffer.write(0, &data).unwrap();
        data
    }

    /// Checks that a pair of channels sends and receives data correctly.
    #[track_caller]
    pub fn pair_works(&mut self, index: usize) {
        let data = self.fill(index);
        self.h2c[index].transfer(LIMIT).unwrap();
        self.c2h[index].transfer(LIMIT).unwrap();
        assert!(self.c2h[index].read() == data, "the data received differs from the data sent");
    }

    /// Checks that the second pair works.
    #[track_caller]
    pub fn others_work(&mut self) {
        self.pair_works(1);
    }

    /// Checks that all channels work.
    #[track_caller]
    pub fn works(&mut self) {
        (0..3).for_each(|_| self.pair_works(0));
        self.others_work();
    }

    /// Recovers all channels after a reset or recovery of the card. Each must report the reset, and work after its recovery.
    #[track_caller]
    pub fn recover_all(&mut self) {
        for channel in self.h2c.iter_mut().chain(&mut self.c2h) {
            let error = channel.channel.check().unwrap_err();
            assert!(matches!(error, EngineError::Reset { .. }), "{error}");
            let again = channel.submit().unwrap_err();
            assert!(
                matches!(again.engine(), Some(EngineError::Reset { .. })),
                "the channel reports the reset until it is recovered"
            );
            channel.channel.recover().unwrap();
        }
        self.works();
    }

    /// Closes everything, and checks that the driver violated no rule of the card.
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

/// Checks that a transfer fails, and that the channel stays failed. Returns the registers at the time of the failure.
#[track_caller]
pub fn failed(channel: &mut RigChannel) -> Snapshot {
    let first = channel.transfer(LIMIT).unwrap_err();
    let again = channel.submit().unwrap_err();
    assert!(matches!(again.engine(), Some(EngineError::Failed { .. })), "the channel stays failed");
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

/// Runs code that must not wait for a time limit.
#[track_caller]
pub fn immediately<T>(call: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = call();
    assert!(begin.elapsed() < LIMIT / 4, "it took {:?}", begin.elapsed());
    result
}
