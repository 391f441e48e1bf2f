//! The faults that wait for their occasion, and how often each struck.

use super::kind::{Occasion, Until};
use super::{Injection, Kind, Plan};
use crate::ChannelId;
use crate::log::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// A card's faults. While there was never any, an occasion costs one load.
#[derive(Debug, Default)]
pub(crate) struct Board {
    used: AtomicBool,
    waiting: Mutex<Vec<Injection>>,
    struck: Mutex<BTreeMap<&'static str, u64>>,
    all_ones: Mutex<Option<Until>>,
}

impl Board {
    pub fn new(plan: &Plan) -> Self {
        let board = Self::default();
        plan.faults.iter().for_each(|&injection| board.add(injection));
        board
    }

    pub fn add(&self, injection: Injection) {
        lock(&self.waiting).push(injection);
        self.used.store(true, Ordering::Release);
    }

    /// Whether there ever was a fault.
    #[inline]
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Notes an occasion; the fault that strikes now, if one does.
    #[inline]
    pub fn strike(&self, occasion: Occasion, channel: Option<ChannelId>) -> Option<Kind> {
        if self.is_used() { self.find(occasion, channel) } else { None }
    }

    fn find(&self, occasion: Occasion, channel: Option<ChannelId>) -> Option<Kind> {
        let mut waiting = lock(&self.waiting);
        let mut struck = None;
        waiting.retain_mut(|injection| {
            let here = injection.on.is_none() || channel.is_none() || injection.on == channel;
            if !here || injection.fault.occasion() != occasion {
                return true;
            }
            if injection.after > 0 {
                injection.after -= 1;
                return true;
            }
            if struck.is_some() {
                return true;
            }
            struck = Some(injection.fault);
            let last = injection.times == 1;
            // 0 stands for always.
            injection.times = injection.times.saturating_sub(1);
            !last
        });
        drop(waiting);
        struck.inspect(|&fault| self.note(fault))
    }

    /// Counts a fault that struck.
    pub fn note(&self, fault: Kind) {
        tracing::debug!(?fault, "struck");
        *lock(&self.struck).entry(fault.name()).or_default() += 1;
    }

    pub fn struck(&self) -> BTreeMap<String, u64> {
        lock(&self.struck).iter().map(|(&name, &count)| (name.to_owned(), count)).collect()
    }

    /// Whether the registers read all ones now.
    pub fn all_ones(&self) -> bool {
        if !self.is_used() {
            return false;
        }
        if let Some(Kind::AllOnes(lasting)) = self.strike(Occasion::RegisterRead, None) {
            *lock(&self.all_ones) = Some(lasting.until());
        }
        lock(&self.all_ones).is_some_and(|until| !until.is_over())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lasting;
    use super::*;
    use xdma_regs::Direction;

    #[test]
    fn occasions_are_counted() {
        let board = Board::default();
        let [here, there] = [0, 1].map(|index| Some(ChannelId { direction: Direction::H2C, index }));
        let strike = |channel| board.strike(Occasion::Descriptor, channel).is_some();
        assert!(!strike(here));
        board.add(Kind::BadMagic.on(Direction::H2C, 0).after(1).times(2));
        assert!(!strike(here) && !strike(there) && board.strike(Occasion::Fetch, here).is_none());
        assert!(strike(here) && !strike(there) && strike(here) && !strike(here));
        board.add(Injection::from(Kind::BadMagic).times(0));
        assert!((0..9).all(|_| strike(here) && strike(there)));
        assert_eq!(board.struck(), BTreeMap::from([("BadMagic".into(), 20)]));
    }

    #[test]
    fn all_ones_end() {
        let board = Board::default();
        board.add(Kind::AllOnes(Lasting::Millis(5)).into());
        assert!(board.all_ones());
        std::thread::sleep(std::time::Duration::from_millis(6));
        assert!(!board.all_ones());
    }
}
