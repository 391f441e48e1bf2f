//! A card with its channels, and the expected content of its memory.

use super::channel_end::Fate;
use super::channel_model::{CardContext, ChannelModel, LIMIT, retry};
use super::host::{Check, direction};
use super::plan::{CardSetup, Disposal, EndFaults, Move, PAIRS, REGION, Side};
use super::shadow::Region;
use crate::controls::{self, Controls};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::card::{BusError, Card, CardError, CardOptions};
use xdma::memory::{Buffer, DmaMemory};
use xdma::regs::{Direction, GONE, IDENTIFIER, Target};
use xdma::unstable::card;
use xdma_emulator::EmulatedCard;
use xdma_emulator::faults::{FaultDuration, Injection, Kind};
use xdma_emulator::logic::Memory;

/// Time limit for an engine to become idle. Some faults last longer.
const IDLE_LIMIT: Duration = Duration::from_millis(40);
/// Sizes of the canaries that are allocated after memory was quarantined: those of descriptor lists, rings and short transfers.
const CANARY_SIZES: [u64; 6] = [64, 192, 512, 1000, 4096, 20 << 10];
/// Number of canaries to keep.
const MAX_CANARIES: usize = 24;

pub struct CardModel {
    setup: CardSetup,
    memory: Arc<Memory>,
    // Fields are dropped in order: channels before the card, the card before the emulated card that serves it.
    channels: Vec<[ChannelModel; 2]>,
    regions: Vec<Region>,
    /// Buffers that no channel ever uses, so they must stay zero.
    canaries: Vec<Buffer>,
    card: Option<Card>,
    emulated: EmulatedCard,
    /// The control registers of a fresh card.
    reset_values: Controls,
    /// Whether the registers may read all ones.
    all_ones: Cell<bool>,
    /// Whether an engine may be delayed for longer than the idle limit.
    delayed: bool,
    /// Whether a forgotten handle keeps the connection open.
    leaked: bool,
}

fn start(setup: &CardSetup) -> Check<(EmulatedCard, Arc<Memory>, Controls)> {
    let memory = Arc::new(Memory::with_size(REGION * PAIRS as u64));
    let emulated =
        EmulatedCard::start(setup.options.clone(), memory.clone()).map_err(|error| error.to_string())?;
    let reset_values = read_controls(&emulated)?;
    Ok((emulated, memory, reset_values))
}

/// Reads the control registers without changing anything.
fn read_controls(emulated: &EmulatedCard) -> Check<Controls> {
    let options = CardOptions { as_found: true, ..CardOptions::default() };
    let card =
        xdma_emulated_card::connect(emulated, options).map_err(|error| format!("not read: {error}"))?;
    Ok(controls::read(&card))
}

fn open(emulated: &EmulatedCard, setup: &CardSetup) -> Result<Card, CardError> {
    let address_seed = Some(setup.address_seed);
    let options = CardOptions { address_seed, idle_limit: IDLE_LIMIT, ..CardOptions::default() };
    xdma_emulated_card::connect(emulated, options)
}

fn channels(card: &Card, setup: &CardSetup) -> Check<Vec<[ChannelModel; 2]>> {
    let channel = |side, pair| ChannelModel::new(card, setup, side, pair, REGION * pair as u64);
    (0..PAIRS).map(|pair| Ok([channel(Side::H2C, pair)?, channel(Side::C2H, pair)?])).collect()
}

impl CardModel {
    pub fn new(setup: &CardSetup) -> Check<Self> {
        let (emulated, memory, reset_values) = start(setup)?;
        let card = retry("not opened", || open(&emulated, setup))?;
        Ok(Self {
            setup: setup.clone(),
            memory,
            channels: channels(&card, setup)?,
            regions: vec![Region::new(REGION as usize); PAIRS],
            canaries: vec![],
            card: Some(card),
            emulated,
            reset_values,
            all_ones: Cell::new(false),
            delayed: false,
            leaked: false,
        })
    }

    /// Returns a channel and its context.
    pub fn channel(&mut self, pair: usize, side: Side) -> (&mut ChannelModel, CardContext<'_>) {
        let Self { setup, channels, regions, card, all_ones, .. } = self;
        let card = card.as_ref().expect("the card is open between steps");
        let context = CardContext { card, setup, region: &mut regions[pair], all_ones };
        (&mut channels[pair][side as usize], context)
    }

    /// Returns a channel that is ready for jobs, after the other channel of its pair has become idle. If both accessed the same
    /// memory at the same time, the outcome would be undefined.
    pub fn ready_exclusively(
        &mut self,
        pair: usize,
        side: Side,
    ) -> Check<Option<(&mut ChannelModel, CardContext<'_>)>> {
        let (channel, mut cx) = self.channel(pair, side.other());
        channel.wait(&mut cx)?;
        self.ready(pair, side)
    }

    /// Returns a channel that is ready for jobs. `None` if it can never be opened again.
    pub fn ready(&mut self, pair: usize, side: Side) -> Check<Option<(&mut ChannelModel, CardContext<'_>)>> {
        let (channel, mut cx) = self.channel(pair, side);
        Ok(channel.ready(&mut cx)?.then_some((channel, cx)))
    }

    pub fn inject(&self, fault: impl Into<Injection>) -> Check {
        self.emulated.inject(fault).map_err(|error| error.to_string())
    }

    pub fn all_ones(&self, millis: u64) -> Check {
        self.all_ones.set(true);
        self.inject(Kind::AllOnes(FaultDuration::Millis(millis)))
    }

    /// Reads an identifier register, which never contains all ones on a working card.
    fn read_register(&self) -> Check<u32> {
        let registers = card::registers(self.card.as_ref().expect("the card is open between steps"));
        registers.read32((Target::Irq.base(0) + IDENTIFIER).into()).map_err(|error| error.to_string())
    }

    /// Waits until the registers no longer read all ones.
    fn wait_until_readable(&mut self) -> Check {
        let end = Instant::now() + LIMIT;
        while self.read_register()? == GONE {
            if Instant::now() > end {
                return Err("the registers still read all ones".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let was_gone = self.all_ones.replace(false);
        self.channels.iter_mut().flatten().for_each(|channel| channel.was_gone |= was_gone);
        Ok(())
    }

    /// Injects `faults` and starts `moves` under them.
    fn prepare_close(&mut self, pair: usize, side: Side, faults: EndFaults, moves: &[Move]) -> Check {
        let on = |kind: Kind| kind.on(direction(side), pair);
        if self.ready_exclusively(pair, side)?.is_some() {
            if let Some(millis) = faults.hang {
                self.inject(on(Kind::AxiHang(FaultDuration::Millis(millis))))?;
            }
            let (channel, mut cx) = self.channel(pair, side);
            channel.submit(moves, &mut cx)?;
            if let Some(millis) = faults.busy {
                self.inject(on(Kind::BusyStuck(FaultDuration::Millis(millis))))?;
            }
        }
        self.delayed |= faults.hang.max(faults.busy).is_some();
        faults.all_ones.map_or(Ok(()), |millis| self.all_ones(millis))
    }

    /// Ends a channel.
    pub fn end(
        &mut self,
        (pair, side): (usize, Side),
        how: Disposal,
        faults: EndFaults,
        moves: &[Move],
        credits: bool,
    ) -> Check {
        self.prepare_close(pair, side, faults, moves)?;
        let (channel, mut cx) = self.channel(pair, side);
        let fate = channel.end(how, faults.all_ones.is_some(), &mut cx)?;
        channel.ring = cx.setup.ring(credits);
        self.leaked |= fate == Fate::Forgotten;
        if fate == Fate::Idle { Ok(()) } else { self.allocate_canaries() }
    }

    /// Allocates canaries. They must not be quarantined memory, which an engine may still write.
    fn allocate_canaries(&mut self) -> Check {
        let card = self.card.as_ref().expect("the card is open between steps");
        for len in CANARY_SIZES {
            let buffer = card.allocate(len, Direction::C2H).map_err(|error| error.to_string())?;
            self.canaries.push(buffer);
        }
        self.check_canaries()?;
        let old = self.canaries.len().saturating_sub(MAX_CANARIES);
        self.canaries.drain(..old);
        Ok(())
    }

    fn check_canaries(&self) -> Check {
        for buffer in &self.canaries {
            let mut seen = vec![0u8; buffer.byte_len() as usize];
            buffer.read(0, &mut seen).map_err(|error| error.to_string())?;
            if let Some(at) = seen.iter().position(|&byte| byte != 0) {
                return Err(format!("byte {at} of a buffer that no channel uses was written"));
            }
        }
        Ok(())
    }

    pub fn end_buffer(&mut self, pair: usize, side: Side, buffer: usize, forget: bool) -> Check {
        self.leaked |= forget;
        let (channel, cx) = self.channel(pair, side);
        channel.replace(cx.card, buffer, forget)
    }

    pub fn end_program(&mut self, pair: usize, side: Side, forget: bool) {
        let program = self.channel(pair, side).0.program.take();
        if forget {
            self.leaked |= program.is_some();
            std::mem::forget(program);
        }
    }

    /// Compares all memory of a pair with the model.
    pub fn check(&mut self, pair: usize) -> Check {
        for side in [Side::H2C, Side::C2H] {
            let (channel, mut cx) = self.channel(pair, side);
            channel.wait(&mut cx)?;
            channel.compare()?;
        }
        let mut seen = vec![0; REGION as usize];
        self.memory.peek(REGION * pair as u64, &mut seen);
        self.regions[pair].compare_now(&seen).map_err(|why| format!("card memory: {why}"))?;
        self.check_canaries()
    }

    /// Ends all channels. The registers are known to read all ones while the first `gone` channels are ended. Returns whether all
    /// channels were closed without an error.
    fn end_all(&mut self, how: Disposal, mut gone: usize, card_first: bool) -> Check<bool> {
        self.check_canaries()?;
        if card_first {
            self.card = None;
        }
        let (mut clean, all_ones) = (true, self.all_ones.get());
        for (pair, region) in self.channels.iter_mut().zip(&mut self.regions) {
            for channel in pair {
                let is_open = channel.channel.is_some();
                self.leaked |= how == Disposal::Forget && is_open;
                clean &= channel.end_with_card(how, gone > 0, all_ones, region)?;
                gone = gone.saturating_sub(is_open.into());
            }
        }
        self.canaries.clear();
        Ok(clean)
    }

    /// Opens the card again, which succeeds only once all engines were seen idle. If a forgotten handle keeps the connection open,
    /// starts another card instead.
    fn open_again(&mut self) -> Check {
        let armed: Vec<_> = self.channels.iter().map(|pair| [0, 1].map(|at| pair[at].armed)).collect();
        self.channels.clear();
        self.card = None;
        if self.leaked {
            match open(&self.emulated, &self.setup) {
                Err(CardError::Bus(BusError::Taken { .. })) => return self.replace(),
                Err(error) => return Err(format!("opening a card that is in use: {error}")),
                Ok(_) => return Err("a card with forgotten channels could be opened".into()),
            }
        }
        let card = retry("not opened again", || open(&self.emulated, &self.setup))?;
        self.regions.iter_mut().for_each(Region::settle);
        self.channels = channels(&card, &self.setup)?;
        self.card = Some(card);
        for (pair, armed) in self.channels.iter_mut().zip(armed) {
            (pair[0].armed, pair[1].armed) = (armed[0], armed[1]);
        }
        self.wait_until_readable()?;
        (0..PAIRS).try_for_each(|pair| self.check(pair))
    }

    /// Starts another card instead of this one.
    fn replace(&mut self) -> Check {
        let setup = self.setup.clone();
        self.check_violations()?;
        *self = Self::new(&setup)?;
        Ok(())
    }

    /// Takes the link down and brings it up again.
    pub fn link(&mut self, how: Disposal) -> Check {
        self.inject(Kind::LinkDown)?;
        self.all_ones.set(true);
        // After this read, no write is in flight that could arrive after the link is up again.
        self.read_register()?;
        self.end_all(how, usize::MAX, false)?;
        self.inject(Kind::LinkUp)?;
        self.open_again()
    }

    pub fn process_gone(&mut self, how: Disposal) -> Check {
        self.inject(Kind::ProcessGone)?;
        self.all_ones.set(true);
        self.end_all(how, usize::MAX, false)?;
        self.channels.clear();
        self.card = None;
        self.replace()
    }

    pub fn reopen(
        &mut self,
        (pair, side): (usize, Side),
        how: Disposal,
        faults: EndFaults,
        moves: &[Move],
        card_first: bool,
    ) -> Check {
        self.prepare_close(pair, side, faults, moves)?;
        // A busy machine can also delay an engine for longer than a channel waits for it.
        let (begin, known) = (Instant::now(), self.channels.iter().flatten().all(|channel| !channel.unknown));
        // The fault starts with the first channel's register read, and may have ended before the last channel is ended.
        let clean = self.end_all(how, faults.all_ones.is_some().into(), card_first)?;
        let quick = known && begin.elapsed() < IDLE_LIMIT;
        if clean && quick && !self.leaked && !self.delayed && !self.all_ones.get() {
            self.check_controls()?;
        }
        self.open_again()
    }

    /// Closes the card and checks that its control registers have their reset values.
    fn check_controls(&mut self) -> Check {
        self.channels.iter_mut().flatten().for_each(|channel| {
            channel.buffers.clear();
            channel.program = None;
        });
        self.card = None;
        let now = read_controls(&self.emulated)?;
        match &controls::changed(&self.reset_values, &now)[..] {
            [] => Ok(()),
            changed => Err(format!("control registers not at their reset values: {changed:x?}")),
        }
    }

    fn check_violations(&self) -> Check {
        match &self.emulated.violations()[..] {
            [] => Ok(()),
            violations => Err(format!("the driver violated rules of the card: {violations:?}")),
        }
    }

    /// Compares all memory, closes everything, and checks the card's final state.
    pub fn finish(mut self) -> Check {
        self.wait_until_readable()?;
        (0..PAIRS).try_for_each(|pair| self.check(pair))?;
        let clean = self.end_all(Disposal::Close, 0, false)?;
        if clean && !self.leaked && !self.delayed {
            self.check_controls()?;
        }
        self.channels.clear();
        self.card = None;
        self.check_violations()
    }
}
