//! A card, its lanes, and what the card's memory may hold.

use crate::lane::{Check, Lane};
use crate::plan::{PAIRS, Plan, REGION, Side, Step, ring};
use crate::shadow::Shadow;
use std::sync::Arc;
use xdma::card::{Card, CardOptions};
use xdma::emulator::faults::Kind;
use xdma::emulator::logic::Memory;
use xdma::emulator::{EmulatedCard, Options};
use xdma::engine::Ring;
use xdma::regs::Direction;

struct World {
    options: Options,
    ring: Ring,
    memory: Arc<Memory>,
    // Lanes go before the card, and the card before what serves it.
    lanes: Vec<[Lane; 2]>,
    regions: Vec<Shadow>,
    card: Option<Card>,
    emulated: EmulatedCard,
}

/// Carries a plan out; what went wrong, and at which step.
pub fn carry_out(plan: &Plan) -> Check {
    let mut world = World::new(plan)?;
    for (at, step) in plan.steps.iter().enumerate() {
        world.take(step).map_err(|why| format!("step {at}, {step:?}: {why}"))?;
    }
    world.end()
}

fn lanes(card: &Card, ring: Ring) -> Check<Vec<[Lane; 2]>> {
    let lane = |side, pair| Lane::new(card, side, pair, REGION * pair as u64, ring);
    (0..PAIRS).map(|pair| Ok([lane(Side::H2C, pair)?, lane(Side::C2H, pair)?])).collect()
}

fn open(emulated: &EmulatedCard) -> Check<Card> {
    Card::connect(emulated.socket(), CardOptions::default()).map_err(|error| format!("not opened: {error}"))
}

impl World {
    fn new(plan: &Plan) -> Check<Self> {
        let options = plan.options.clone();
        let ring = ring(&options, plan.credits);
        let memory = Arc::new(Memory::with_size(REGION * PAIRS as u64));
        let emulated =
            EmulatedCard::start(options.clone(), memory.clone()).map_err(|error| error.to_string())?;
        let card = open(&emulated)?;
        let lanes = lanes(&card, ring)?;
        let regions = vec![Shadow::new(REGION as usize); PAIRS];
        Ok(Self { options, ring, memory, lanes, regions, card: Some(card), emulated })
    }

    fn card(&self) -> Card {
        self.card.clone().expect("open between steps")
    }

    /// A lane, and what the card may hold of its pair.
    fn lane(&mut self, pair: usize, side: Side) -> (&mut Lane, &mut Shadow) {
        (&mut self.lanes[pair][side as usize], &mut self.regions[pair])
    }

    /// A lane when the other direction of its pair is at rest: what both touch at once has no right outcome.
    fn alone(&mut self, pair: usize, side: Side) -> Check<(&mut Lane, &mut Shadow)> {
        let other = if side == Side::H2C { Side::C2H } else { Side::H2C };
        let (lane, region) = self.lane(pair, other);
        lane.wait(region)?;
        Ok(self.lane(pair, side))
    }

    fn take(&mut self, step: &Step) -> Check {
        match *step {
            Step::Fill { pair, buffer, at, len, seed } => {
                let (lane, region) = self.lane(pair, Side::H2C);
                lane.fill(buffer, at, &noise(len as usize, seed), region)
            }
            Step::Submit { pair, side, ref moves } => {
                let (lane, region) = self.alone(pair, side)?;
                lane.submit(moves, region)
            }
            Step::Build { pair, side, ref moves } => {
                let (lane, region) = self.lane(pair, side);
                lane.build(moves, region)
            }
            Step::Run { pair, side } => {
                let (lane, region) = self.alone(pair, side)?;
                lane.run(region)
            }
            Step::Poll { pair, side } => {
                let (lane, region) = self.lane(pair, side);
                lane.poll(region).map(drop)
            }
            Step::Wait { pair, side } => {
                let (lane, region) = self.lane(pair, side);
                lane.wait(region)
            }
            Step::Stop { pair, side } => {
                let (lane, region) = self.lane(pair, side);
                lane.stop(region)
            }
            Step::Recover { pair, side } => {
                let (lane, region) = self.lane(pair, side);
                lane.recover(region)
            }
            Step::Close { pair, side, credits } => self.close(pair, side, credits),
            Step::Drop { pair, side, buffer } => {
                let card = self.card();
                self.lane(pair, side).0.replace(&card, buffer)
            }
            Step::Check { pair } => self.check(pair),
            Step::Fail { pair, side, fault } => {
                self.lane(pair, side).0.armed += 1;
                self.cause(pair, side, fault)
            }
            Step::Disturb { pair, side, fault } => self.cause(pair, side, fault),
            Step::Link => self.link(),
        }
    }

    fn cause(&mut self, pair: usize, side: Side, fault: Kind) -> Check {
        let direction = if side == Side::H2C { Direction::H2C } else { Direction::C2H };
        self.emulated.inject(fault.on(direction, pair)).map_err(|error| error.to_string())
    }

    fn close(&mut self, pair: usize, side: Side, credits: bool) -> Check {
        let (card, ring) = (self.card(), ring(&self.options, credits));
        let at = side as usize;
        // The pair without this one, for a moment.
        let [h2c, c2h] = self.lanes.remove(pair);
        let (lane, other) = if at == 0 { (h2c, c2h) } else { (c2h, h2c) };
        let lane = lane.close()?.open(&card, ring, &mut self.regions[pair])?;
        self.lanes.insert(pair, if at == 0 { [lane, other] } else { [other, lane] });
        Ok(())
    }

    fn check(&mut self, pair: usize) -> Check {
        for side in [Side::H2C, Side::C2H] {
            let (lane, region) = self.lane(pair, side);
            lane.wait(region)?;
            lane.look()?;
        }
        let mut seen = vec![0; REGION as usize];
        self.memory.peek(REGION * pair as u64, &mut seen);
        self.regions[pair].see(0, &seen).map_err(|why| format!("the card's memory: {why}"))
    }

    /// All is lost but what the card's memory holds.
    fn link(&mut self) -> Check {
        self.emulated.inject(Kind::LinkDown).map_err(|error| error.to_string())?;
        let armed: Vec<_> = self.lanes.iter().map(|[h2c, c2h]| [h2c.armed, c2h.armed]).collect();
        for ([h2c, _], region) in self.lanes.iter().zip(&mut self.regions) {
            h2c.gone(region);
        }
        self.lanes.clear();
        self.card = None;
        self.emulated.inject(Kind::LinkUp).map_err(|error| error.to_string())?;
        let card = open(&self.emulated)?;
        self.lanes = lanes(&card, self.ring)?;
        self.card = Some(card);
        for (lanes, armed) in self.lanes.iter_mut().zip(armed) {
            (lanes[0].armed, lanes[1].armed) = (armed[0], armed[1]);
        }
        (0..PAIRS).try_for_each(|pair| self.check(pair))
    }

    fn end(mut self) -> Check {
        (0..PAIRS).try_for_each(|pair| self.check(pair))?;
        let Self { lanes, card, emulated, .. } = self;
        drop((lanes, card));
        match &emulated.violations()[..] {
            [] => Ok(()),
            violations => Err(format!("rules were broken: {violations:?}")),
        }
    }
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}
