//! Who has which of a receiver's buffers: nobody, the engine, or the program.

use std::collections::VecDeque;

/// The buffers' numbers. What is in neither list is with the program. Both lists have room for all from the start.
#[derive(Debug)]
pub(super) struct Buffers<T> {
    free: Vec<usize>,
    /// Those that the engine fills, in its order, each with what names its transfer.
    posted: VecDeque<(usize, T)>,
    /// How many the engine may have.
    ahead: usize,
}

impl<T: Copy> Buffers<T> {
    /// Buffers 0 to `count`, all free.
    pub fn new(count: usize) -> Self {
        Self { free: (0..count).rev().collect(), posted: VecDeque::with_capacity(count), ahead: count }
    }

    pub fn ahead(&self) -> usize {
        self.ahead
    }

    pub fn set_ahead(&mut self, ahead: usize) {
        self.ahead = ahead;
    }

    /// Which buffer the engine is to get next, if any.
    pub fn next(&self) -> Option<usize> {
        if self.posted.len() < self.ahead { self.free.last().copied() } else { None }
    }

    /// The engine got the [next](Self::next) one.
    pub fn post(&mut self, transfer: T) {
        if let Some(buffer) = self.free.pop() {
            self.posted.push_back((buffer, transfer));
        }
    }

    /// What names the transfer of the oldest that the engine has.
    pub fn oldest(&self) -> Option<T> {
        self.posted.front().map(|&(_, transfer)| transfer)
    }

    /// The oldest that the engine had goes to the program.
    pub fn take(&mut self) -> Option<usize> {
        self.posted.pop_front().map(|(buffer, _)| buffer)
    }

    /// Whether all are with the engine or the program.
    pub fn is_used_up(&self) -> bool {
        self.free.is_empty()
    }

    /// The program is done with one.
    pub fn give_back(&mut self, buffer: usize) {
        self.free.push(buffer);
    }

    /// Those of the engine of which `lost` says so are free again.
    pub fn reclaim(&mut self, mut lost: impl FnMut(T) -> bool) {
        let Self { free, posted, .. } = self;
        posted.retain(|&(buffer, transfer)| {
            let lost = lost(transfer);
            if lost {
                free.push(buffer);
            }
            !lost
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Fill,
        Take,
        GiveBack(usize),
        Ahead(usize),
        /// Of those that the engine has, all but the first so many are lost.
        Lose(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => Just(Step::Fill),
            6 => Just(Step::Take),
            6 => any::<usize>().prop_map(Step::GiveBack),
            1 => (0usize..10).prop_map(Step::Ahead),
            1 => (0usize..8).prop_map(Step::Lose),
        ];
        prop::collection::vec(step, 1..400)
    }

    proptest! {
        /// Each buffer is in one place, the engine's come back in the order in which it got them, and it never has more than it may.
        #[test]
        fn every_buffer_is_in_one_place(count in 1usize..8, steps in steps()) {
            let mut buffers = Buffers::new(count);
            // Transfers in the order in which they were started, and buffers with the program.
            let (mut engine, mut program) = (VecDeque::new(), vec![]);
            let (mut transfer, mut ahead, mut seen) = (0u64, count, 0);
            for step in steps {
                match step {
                    Step::Fill => {
                        while let Some(buffer) = buffers.next() {
                            prop_assert!(engine.len() < ahead);
                            prop_assert!(!program.contains(&buffer) && engine.iter().all(|&(b, _)| b != buffer));
                            buffers.post(transfer);
                            engine.push_back((buffer, transfer));
                            transfer += 1;
                        }
                        prop_assert!(engine.len() >= ahead || engine.len() + program.len() == count);
                    }
                    Step::Take => {
                        prop_assert_eq!(buffers.oldest(), engine.front().map(|&(_, transfer)| transfer));
                        let taken = buffers.take();
                        prop_assert_eq!(taken, engine.pop_front().map(|(buffer, _)| buffer));
                        program.extend(taken);
                        seen += usize::from(taken.is_some());
                    }
                    Step::GiveBack(which) if !program.is_empty() => {
                        buffers.give_back(program.swap_remove(which % program.len()));
                    }
                    Step::GiveBack(_) => {}
                    Step::Ahead(most) => {
                        buffers.set_ahead(most);
                        ahead = most;
                    }
                    Step::Lose(kept) => {
                        let first = engine.get(kept).map_or(u64::MAX, |&(_, transfer)| transfer);
                        buffers.reclaim(|transfer| transfer >= first);
                        engine.truncate(kept);
                    }
                }
                prop_assert_eq!(buffers.free.len() + engine.len() + program.len(), count);
                prop_assert_eq!(buffers.posted.len(), engine.len());
                prop_assert!(buffers.free.capacity() >= count && buffers.posted.capacity() >= count);
            }
            prop_assert!(seen as u64 <= transfer);
        }
    }
}
