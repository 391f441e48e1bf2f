//! Executes plans.

use super::card_model::CardModel;
use super::host::{Check, direction};
use super::plan::{Action, ForeignUse, Plan, Side, Step};

struct PlanRunner {
    cards: Vec<CardModel>,
}

/// Executes a plan. An error describes the step whose outcome differs from the model.
pub fn execute(plan: &Plan) -> Check {
    let cards = plan.cards.iter().map(CardModel::new).collect::<Check<_>>()?;
    let mut runner = PlanRunner { cards };
    for (at, step) in plan.steps.iter().enumerate() {
        runner.execute(step).map_err(|why| format!("step {at}, {step:?}: {why}"))?;
    }
    runner.cards.into_iter().try_for_each(CardModel::finish)
}

impl PlanRunner {
    fn execute(&mut self, step: &Step) -> Check {
        let Step { pair, side, ref action, .. } = *step;
        let card = step.card % self.cards.len();
        match action {
            Action::Foreign(what) => self.use_foreign(card, pair, side, *what),
            action => self.cards[card].execute(pair, side, action),
        }
    }

    /// Tries to use a handle of the next card, which must be refused.
    fn use_foreign(&mut self, card: usize, pair: usize, side: Side, what: ForeignUse) -> Check {
        let other = (card + 1) % self.cards.len();
        let handles = self.cards[other].channel(pair, side).0.handles()?;
        match self.cards[card].ready(pair, side)? {
            Some((channel, _)) => channel.use_foreign(what, &handles),
            None => Ok(()),
        }
    }
}

impl CardModel {
    fn execute(&mut self, pair: usize, side: Side, action: &Action) -> Check {
        match *action {
            Action::Check => return self.check(pair),
            Action::Fail(fault) => {
                self.channel(pair, side).0.armed += 1;
                return self.inject(fault.on(direction(side), pair));
            }
            Action::Disturb(fault) => return self.inject(fault.on(direction(side), pair)),
            Action::AllOnes(millis) => return self.all_ones(millis),
            Action::Link { how } => return self.link(how),
            Action::ProcessGone { how } => return self.process_gone(how),
            Action::End { how, faults, ref moves, credits } => {
                return self.end((pair, side), how, faults, moves, credits);
            }
            Action::Reopen { how, faults, ref moves, card_first } => {
                return self.reopen((pair, side), how, faults, moves, card_first);
            }
            Action::EndBuffer { buffer, forget } => return self.end_buffer(pair, side, buffer, forget),
            Action::EndProgram { forget } => {
                self.end_program(pair, side, forget);
                return Ok(());
            }
            _ => {}
        }
        let moves = matches!(action, Action::Submit(_) | Action::Run);
        let channel = if moves { self.ready_exclusively(pair, side)? } else { self.ready(pair, side)? };
        let Some((channel, mut cx)) = channel else { return Ok(()) };
        match *action {
            Action::Fill { buffer, at, len, seed } => {
                channel.fill(buffer, at, &noise(len as usize, seed), &mut cx)
            }
            Action::Submit(ref moves) => channel.submit(moves, &mut cx),
            Action::Build(ref moves) => channel.build(moves),
            Action::Run => channel.run(&mut cx),
            Action::Poll => channel.poll(&mut cx).map(drop),
            Action::Wait => channel.wait(&mut cx),
            Action::Await { forget } => channel.wait_in_task(forget, &mut cx),
            Action::Stop => channel.stop(&mut cx),
            Action::Recover => channel.recover(&mut cx),
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
