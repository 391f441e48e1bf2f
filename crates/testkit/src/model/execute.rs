//! The cards of a process, and the steps that concern them.

use super::host::Check;
use super::plan::{Action, Foreign, Plan, Side, Step};
use super::site::Site;

struct World {
    sites: Vec<Site>,
}

/// Carries a plan out; what went wrong, and at which step.
pub fn carry_out(plan: &Plan) -> Check {
    let sites = plan.cards.iter().map(Site::new).collect::<Check<_>>()?;
    let mut world = World { sites };
    for (at, step) in plan.steps.iter().enumerate() {
        world.take(step).map_err(|why| format!("step {at}, {step:?}: {why}"))?;
    }
    world.sites.into_iter().try_for_each(Site::finish)
}

impl World {
    fn take(&mut self, step: &Step) -> Check {
        let Step { pair, side, ref action, .. } = *step;
        let card = step.card % self.sites.len();
        match action {
            Action::Foreign(what) => self.use_foreign(card, pair, side, *what),
            action => self.sites[card].take(pair, side, action),
        }
    }

    /// The next card offers what this one must not take.
    fn use_foreign(&mut self, card: usize, pair: usize, side: Side, what: Foreign) -> Check {
        let other = (card + 1) % self.sites.len();
        let offer = self.sites[other].lane(pair, side).0.offer()?;
        match self.sites[card].ready(pair, side)? {
            Some((lane, _)) => lane.use_foreign(what, &offer),
            None => Ok(()),
        }
    }
}

impl Site {
    fn take(&mut self, pair: usize, side: Side, action: &Action) -> Check {
        match *action {
            Action::Check => return self.check(pair),
            Action::Fail(fault) => {
                self.lane(pair, side).0.armed += 1;
                return self.inject(fault.on(super::host::direction(side), pair));
            }
            Action::Disturb(fault) => return self.inject(fault.on(super::host::direction(side), pair)),
            Action::AllOnes(millis) => return self.all_ones(millis),
            Action::Link { how } => return self.link(how),
            Action::ProcessGone { how } => return self.process_gone(how),
            Action::End { how, under, ref moves, credits } => {
                return self.end((pair, side), how, under, moves, credits);
            }
            Action::Reopen { how, under, ref moves, card_first } => {
                return self.reopen((pair, side), how, under, moves, card_first);
            }
            Action::EndBuffer { buffer, forget } => return self.end_buffer(pair, side, buffer, forget),
            Action::EndProgram { forget } => {
                self.end_program(pair, side, forget);
                return Ok(());
            }
            _ => {}
        }
        let moves = matches!(action, Action::Submit(_) | Action::Run);
        let lane = if moves { self.alone(pair, side)? } else { self.ready(pair, side)? };
        let Some((lane, mut cx)) = lane else { return Ok(()) };
        match *action {
            Action::Fill { buffer, at, len, seed } => {
                lane.fill(buffer, at, &noise(len as usize, seed), &mut cx)
            }
            Action::Submit(ref moves) => lane.submit(moves, &mut cx),
            Action::Build(ref moves) => lane.build(moves),
            Action::Run => lane.run(&mut cx),
            Action::Poll => lane.poll(&mut cx).map(drop),
            Action::Wait => lane.wait(&mut cx),
            Action::Await { forget } => lane.wait_in_task(forget, &mut cx),
            Action::Stop => lane.stop(&mut cx),
            Action::Recover => lane.recover(&mut cx),
            _ => Ok(()),
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
