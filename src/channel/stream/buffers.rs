//! Ownership of a receiver's buffers. Each is free, posted to the engine, or held by the program.

use std::collections::VecDeque;

/// Buffer numbers. Buffers in neither list are held by the program. Both lists have capacity for all buffers from the start.
#[derive(Debug)]
pub(super) struct Buffers<T> {
    free: Vec<usize>,
    /// Buffers that the engine fills, in order, each with its transfer.
    posted: VecDeque<(usize, T)>,
    /// Maximum number of posted buffers.
    max_posted: usize,
}

impl<T: Copy> Buffers<T> {
    /// Creates `count` free buffers, numbered from 0.
    pub fn new(count: usize) -> Self {
        Self { free: (0..count).rev().collect(), posted: VecDeque::with_capacity(count), max_posted: count }
    }

    pub fn max_posted(&self) -> usize {
        self.max_posted
    }

    pub fn set_max_posted(&mut self, max_posted: usize) {
        self.max_posted = max_posted;
    }

    /// Returns the buffer to post next, if there is a free one and the maximum is not reached.
    pub fn next(&self) -> Option<usize> {
        if self.posted.len() < self.max_posted { self.free.last().copied() } else { None }
    }

    /// Records that the [next](Self::next) buffer was posted.
    pub fn post(&mut self, transfer: T) {
        if let Some(buffer) = self.free.pop() {
            self.posted.push_back((buffer, transfer));
        }
    }

    /// Returns the transfer of the oldest posted buffer.
    pub fn oldest(&self) -> Option<T> {
        self.posted.front().map(|&(_, transfer)| transfer)
    }

    /// Hands the oldest posted buffer to the program.
    pub fn dequeue(&mut self) -> Option<usize> {
        self.posted.pop_front().map(|(buffer, _)| buffer)
    }

    /// Returns whether no buffer is free.
    pub fn none_free(&self) -> bool {
        self.free.is_empty()
    }

    /// Frees a buffer that the program held.
    pub fn recycle(&mut self, buffer: usize) {
        self.free.push(buffer);
    }

    /// Frees the posted buffers whose transfers are `lost`.
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
        Post,
        Dequeue,
        Recycle(usize),
        MaxPosted(usize),
        /// All posted buffers but the first few are lost.
        Lose(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => Just(Step::Post),
            6 => Just(Step::Dequeue),
            6 => any::<usize>().prop_map(Step::Recycle),
            1 => (0usize..10).prop_map(Step::MaxPosted),
            1 => (0usize..8).prop_map(Step::Lose),
        ];
        prop::collection::vec(step, 1..400)
    }

    proptest! {
        /// Each buffer has one owner, buffers come back in the order in which they were posted, and no more than the maximum
        /// are posted.
        #[test]
        fn every_buffer_has_one_owner(count in 1usize..8, steps in steps()) {
            let mut buffers = Buffers::new(count);
            // Transfers in the order in which they were started, and buffers held by the program.
            let (mut engine, mut program) = (VecDeque::new(), vec![]);
            let (mut transfer, mut max_posted, mut seen) = (0u64, count, 0);
            for step in steps {
                match step {
                    Step::Post => {
                        while let Some(buffer) = buffers.next() {
                            prop_assert!(engine.len() < max_posted);
                            prop_assert!(!program.contains(&buffer) && engine.iter().all(|&(b, _)| b != buffer));
                            buffers.post(transfer);
                            engine.push_back((buffer, transfer));
                            transfer += 1;
                        }
                        prop_assert!(engine.len() >= max_posted || engine.len() + program.len() == count);
                    }
                    Step::Dequeue => {
                        prop_assert_eq!(buffers.oldest(), engine.front().map(|&(_, transfer)| transfer));
                        let dequeued = buffers.dequeue();
                        prop_assert_eq!(dequeued, engine.pop_front().map(|(buffer, _)| buffer));
                        program.extend(dequeued);
                        seen += usize::from(dequeued.is_some());
                    }
                    Step::Recycle(which) if !program.is_empty() => {
                        buffers.recycle(program.swap_remove(which % program.len()));
                    }
                    Step::Recycle(_) => {}
                    Step::MaxPosted(most) => {
                        buffers.set_max_posted(most);
                        max_posted = most;
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
