//! A card, its lanes, and what the card's memory may hold.

use super::ending::Fate;
use super::host::{Check, direction};
use super::lane::{Context, LIMIT, Lane, patiently};
use super::plan::{End, Move, PAIRS, REGION, Setup, Side, Under};
use super::shadow::Region;
use crate::controls::{self, Controls};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::bus::BusError;
use xdma::card::{Card, CardError, CardOptions};
use xdma::memory::Buffer;
use xdma::regs::{Direction, GONE, IDENTIFIER, Target};
use xdma_emulator::EmulatedCard;
use xdma_emulator::faults::{Injection, Kind, Lasting};
use xdma_emulator::logic::Memory;

/// How long an engine may take to become idle; some faults last longer.
const IDLE_LIMIT: Duration = Duration::from_millis(40);
/// Sizes of small buffers that are taken after something was quarantined: of lists, of rings, of short transfers.
const SMALL: [u64; 6] = [64, 192, 512, 1000, 4096, 20 << 10];
/// Small buffers that are kept.
const KEPT: usize = 24;

pub struct Site {
    setup: Setup,
    memory: Arc<Memory>,
    // Lanes go before the card, and the card before what serves it.
    pub lanes: Vec<[Lane; 2]>,
    regions: Vec<Region>,
    /// Never given to a channel, so that they stay zero.
    unused: Vec<Buffer>,
    card: Option<Card>,
    emulated: EmulatedCard,
    fresh: Controls,
    /// The registers may read all ones.
    all_ones: Cell<bool>,
    /// An engine may be held up for longer than it may take to become idle.
    slow: bool,
    /// Something was forgotten that keeps the connection open.
    kept: bool,
}

fn start(setup: &Setup) -> Check<(EmulatedCard, Arc<Memory>, Controls)> {
    let memory = Arc::new(Memory::with_size(REGION * PAIRS as u64));
    let emulated =
        EmulatedCard::start(setup.options.clone(), memory.clone()).map_err(|error| error.to_string())?;
    let fresh = look_only(&emulated)?;
    Ok((emulated, memory, fresh))
}

fn look_only(emulated: &EmulatedCard) -> Check<Controls> {
    let options = CardOptions { as_found: true, ..CardOptions::default() };
    let card =
        xdma_emulated_card::connect(emulated, options).map_err(|error| format!("not read: {error}"))?;
    Ok(controls::read(&card))
}

fn open(emulated: &EmulatedCard, setup: &Setup) -> Result<Card, CardError> {
    let address_seed = Some(setup.address_seed);
    let options = CardOptions { address_seed, idle_limit: IDLE_LIMIT, ..CardOptions::default() };
    xdma_emulated_card::connect(emulated, options)
}

fn lanes(card: &Card, setup: &Setup) -> Check<Vec<[Lane; 2]>> {
    let lane = |side, pair| Lane::new(card, setup, side, pair, REGION * pair as u64);
    (0..PAIRS).map(|pair| Ok([lane(Side::H2C, pair)?, lane(Side::C2H, pair)?])).collect()
}

impl Site {
    pub fn new(setup: &Setup) -> Check<Self> {
        let (emulated, memory, fresh) = start(setup)?;
        let card = patiently("not opened", || open(&emulated, setup))?;
        Ok(Self {
            setup: setup.clone(),
            memory,
            lanes: lanes(&card, setup)?,
            regions: vec![Region::new(REGION as usize); PAIRS],
            unused: vec![],
            card: Some(card),
            emulated,
            fresh,
            all_ones: Cell::new(false),
            slow: false,
            kept: false,
        })
    }

    /// A lane, with what it needs of its card.
    pub fn lane(&mut self, pair: usize, side: Side) -> (&mut Lane, Context<'_>) {
        let Self { setup, lanes, regions, card, all_ones, .. } = self;
        let card = card.as_ref().expect("open between steps");
        (&mut lanes[pair][side as usize], Context { card, setup, region: &mut regions[pair], all_ones })
    }

    /// A lane that works, when the other direction of its pair is at rest: what both touch at once has no right outcome.
    pub fn alone(&mut self, pair: usize, side: Side) -> Check<Option<(&mut Lane, Context<'_>)>> {
        let (lane, mut cx) = self.lane(pair, side.other());
        lane.wait(&mut cx)?;
        self.ready(pair, side)
    }

    /// A lane that works; `None` if it never will.
    pub fn ready(&mut self, pair: usize, side: Side) -> Check<Option<(&mut Lane, Context<'_>)>> {
        let (lane, mut cx) = self.lane(pair, side);
        Ok(lane.ready(&mut cx)?.then_some((lane, cx)))
    }

    pub fn inject(&self, fault: impl Into<Injection>) -> Check {
        self.emulated.inject(fault).map_err(|error| error.to_string())
    }

    pub fn all_ones(&self, millis: u64) -> Check {
        self.all_ones.set(true);
        self.inject(Kind::AllOnes(Lasting::Millis(millis)))
    }

    /// Reads a register that no card has as all ones.
    fn read_register(&self) -> Check<u32> {
        let registers = self.card.as_ref().expect("open between steps").register_bar();
        registers.read32((Target::Irq.base(0) + IDENTIFIER).into()).map_err(|error| error.to_string())
    }

    /// Waits until the registers can be read.
    fn calm(&self) -> Check {
        let end = Instant::now() + LIMIT;
        while self.read_register()? == GONE {
            if Instant::now() > end {
                return Err("the registers read all ones for ever".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.all_ones.set(false);
        Ok(())
    }

    /// Starts moves, with what is to hold them up, and then lets the registers read all ones.
    fn prepare(&mut self, pair: usize, side: Side, under: Under, moves: &[Move]) -> Check {
        let on = |kind: Kind| kind.on(direction(side), pair);
        if self.alone(pair, side)?.is_some() {
            if let Some(millis) = under.hang {
                self.inject(on(Kind::AxiHang(Lasting::Millis(millis))))?;
            }
            let (lane, mut cx) = self.lane(pair, side);
            lane.submit(moves, &mut cx)?;
            if let Some(millis) = under.busy {
                self.inject(on(Kind::BusyStuck(Lasting::Millis(millis))))?;
            }
        }
        self.slow |= under.hang.max(under.busy).is_some();
        under.all_ones.map_or(Ok(()), |millis| self.all_ones(millis))
    }

    /// Ends a channel.
    pub fn end(
        &mut self,
        (pair, side): (usize, Side),
        how: End,
        under: Under,
        moves: &[Move],
        credits: bool,
    ) -> Check {
        self.prepare(pair, side, under, moves)?;
        let (lane, mut cx) = self.lane(pair, side);
        let fate = lane.end(how, under.all_ones.is_some(), &mut cx)?;
        lane.ring = cx.setup.ring(credits);
        self.kept |= fate == Fate::Forgotten;
        if fate == Fate::Idle { Ok(()) } else { self.take_small() }
    }

    /// Memory that was quarantined must not come out of the pool again: whatever comes stays as it is.
    fn take_small(&mut self) -> Check {
        let card = self.card.as_ref().expect("open between steps");
        for len in SMALL {
            let buffer = card.allocate(len, Direction::C2H).map_err(|error| error.to_string())?;
            self.unused.push(buffer);
        }
        self.look_at_unused()?;
        let old = self.unused.len().saturating_sub(KEPT);
        self.unused.drain(..old);
        Ok(())
    }

    fn look_at_unused(&self) -> Check {
        for buffer in &self.unused {
            let mut seen = vec![0u8; xdma::memory::DmaMemory::byte_len(buffer) as usize];
            buffer.read(0, &mut seen).map_err(|error| error.to_string())?;
            if let Some(at) = seen.iter().position(|&byte| byte != 0) {
                return Err(format!("byte {at} of a buffer that no channel was given was written"));
            }
        }
        Ok(())
    }

    pub fn end_buffer(&mut self, pair: usize, side: Side, buffer: usize, forget: bool) -> Check {
        self.kept |= forget;
        let (lane, cx) = self.lane(pair, side);
        lane.replace(cx.card, buffer, forget)
    }

    pub fn end_program(&mut self, pair: usize, side: Side, forget: bool) {
        let program = self.lane(pair, side).0.program.take();
        if forget {
            self.kept |= program.is_some();
            std::mem::forget(program);
        }
    }

    /// Compares everything of a pair.
    pub fn check(&mut self, pair: usize) -> Check {
        for side in [Side::H2C, Side::C2H] {
            let (lane, mut cx) = self.lane(pair, side);
            lane.wait(&mut cx)?;
            lane.look()?;
        }
        let mut seen = vec![0; REGION as usize];
        self.memory.peek(REGION * pair as u64, &mut seen);
        self.regions[pair].see_now(&seen).map_err(|why| format!("the card's memory: {why}"))?;
        self.look_at_unused()
    }

    /// Ends all that was opened, so many channels of it while the registers are sure to read all ones; whether all of it was closed
    /// well.
    fn leave(&mut self, how: End, mut blind: usize, card_first: bool) -> Check<bool> {
        self.look_at_unused()?;
        if card_first {
            self.card = None;
        }
        let (mut well, all_ones) = (true, self.all_ones.get());
        for (lanes, region) in self.lanes.iter_mut().zip(&mut self.regions) {
            for lane in lanes {
                let is_open = lane.channel.is_some();
                self.kept |= how == End::Forget && is_open;
                well &= lane.leave(how, blind > 0, all_ones, region)?;
                blind = blind.saturating_sub(is_open.into());
            }
        }
        self.unused.clear();
        Ok(well)
    }

    /// Opens the card again, which sees all engines idle; another one, if the connection to this one was kept open.
    fn come_back(&mut self) -> Check {
        let armed: Vec<_> = self.lanes.iter().map(|lanes| [0, 1].map(|at| lanes[at].armed)).collect();
        self.lanes.clear();
        self.card = None;
        if self.kept {
            match open(&self.emulated, &self.setup) {
                Err(CardError::Bus(BusError::Taken { .. })) => return self.replace(),
                Err(error) => return Err(format!("a card that is taken: {error}")),
                Ok(_) => return Err("a card was opened whose channels were forgotten".into()),
            }
        }
        let card = patiently("not opened again", || open(&self.emulated, &self.setup))?;
        self.regions.iter_mut().for_each(Region::settle);
        self.lanes = lanes(&card, &self.setup)?;
        self.card = Some(card);
        for (lanes, armed) in self.lanes.iter_mut().zip(armed) {
            (lanes[0].armed, lanes[1].armed) = (armed[0], armed[1]);
        }
        self.calm()?;
        (0..PAIRS).try_for_each(|pair| self.check(pair))
    }

    /// Another card takes its place.
    fn replace(&mut self) -> Check {
        let setup = self.setup.clone();
        self.check_rules()?;
        *self = Self::new(&setup)?;
        Ok(())
    }

    /// The link goes down and comes back.
    pub fn link(&mut self, how: End) -> Check {
        self.inject(Kind::LinkDown)?;
        self.all_ones.set(true);
        // Writes that are still on their way are lost with the link, not carried out when it is back.
        self.read_register()?;
        self.leave(how, usize::MAX, false)?;
        self.inject(Kind::LinkUp)?;
        self.come_back()
    }

    pub fn process_gone(&mut self, how: End) -> Check {
        self.inject(Kind::ProcessGone)?;
        self.all_ones.set(true);
        self.leave(how, usize::MAX, false)?;
        self.lanes.clear();
        self.card = None;
        self.replace()
    }

    pub fn reopen(
        &mut self,
        (pair, side): (usize, Side),
        how: End,
        under: Under,
        moves: &[Move],
        card_first: bool,
    ) -> Check {
        self.prepare(pair, side, under, moves)?;
        // A machine that is busy may hold up an engine too, for longer than a channel waits for it.
        let (begin, known) = (Instant::now(), self.lanes.iter().flatten().all(|lane| !lane.unknown));
        // The first channel's register read begins the fault; it may be over before the last channel ends.
        let well = self.leave(how, under.all_ones.is_some().into(), card_first)?;
        let quick = known && begin.elapsed() < IDLE_LIMIT;
        if well && quick && !self.kept && !self.slow && !self.all_ones.get() {
            self.check_controls()?;
        }
        self.come_back()
    }

    /// A card that was closed well is as a reset leaves it.
    fn check_controls(&mut self) -> Check {
        self.lanes.iter_mut().flatten().for_each(|lane| {
            lane.hosts.clear();
            lane.program = None;
        });
        self.card = None;
        let now = look_only(&self.emulated)?;
        match &controls::changed(&self.fresh, &now)[..] {
            [] => Ok(()),
            changed => Err(format!("left behind: {changed:x?}")),
        }
    }

    fn check_rules(&self) -> Check {
        match &self.emulated.violations()[..] {
            [] => Ok(()),
            violations => Err(format!("rules were broken: {violations:?}")),
        }
    }

    /// Compares everything, closes everything, and looks at what is left.
    pub fn finish(mut self) -> Check {
        self.calm()?;
        (0..PAIRS).try_for_each(|pair| self.check(pair))?;
        let well = self.leave(End::Close, 0, false)?;
        if well && !self.kept && !self.slow {
            self.check_controls()?;
        }
        self.lanes.clear();
        self.card = None;
        self.check_rules()
    }
}
