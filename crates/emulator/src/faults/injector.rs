//! The fault injector: faults that wait for their injection point, and the number of injections of each fault.

use super::kind::{InjectionPoint, Until};
use super::{Injection, Kind, Plan};
use crate::ChannelId;
use crate::log::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The fault injector of a card. As long as no fault was ever added, passing an injection point costs one atomic load.
#[derive(Debug, Default)]
pub(crate) struct FaultInjector {
    armed: AtomicBool,
    waiting: Mutex<Vec<Injection>>,
    injected: Mutex<BTreeMap<&'static str, u64>>,
    all_ones: Mutex<Option<Until>>,
}

impl FaultInjector {
    pub fn new(plan: &Plan) -> Self {
        let injector = Self::default();
        plan.faults.iter().for_each(|&injection| injector.add(injection));
        injector
    }

    pub fn add(&self, injection: Injection) {
        lock(&self.waiting).push(injection);
        self.armed.store(true, Ordering::Release);
    }

    /// Returns whether any fault was ever added.
    #[inline]
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// Counts an opportunity at `point`, and returns the fault to inject now, if one is due.
    #[inline]
    pub fn fault_at(&self, point: InjectionPoint, channel: Option<ChannelId>) -> Option<Kind> {
        if self.is_armed() { self.find(point, channel) } else { None }
    }

    fn find(&self, point: InjectionPoint, channel: Option<ChannelId>) -> Option<Kind> {
        let mut waiting = lock(&self.waiting);
        let mut injected = None;
        waiting.retain_mut(|injection| {
            let here = injection.on.is_none() || channel.is_none() || injection.on == channel;
            if !here || injection.fault.injection_point() != point {
                return true;
            }
            if injection.after > 0 {
                injection.after -= 1;
                return true;
            }
            if injected.is_some() {
                return true;
            }
            injected = Some(injection.fault);
            let last = injection.times == 1;
            // 0 means always.
            injection.times = injection.times.saturating_sub(1);
            !last
        });
        drop(waiting);
        injected.inspect(|&fault| self.record_injected(fault))
    }

    /// Counts an injected fault.
    pub fn record_injected(&self, fault: Kind) {
        tracing::debug!(?fault, "injected");
        *lock(&self.injected).entry(fault.name()).or_default() += 1;
    }

    pub fn injected(&self) -> BTreeMap<String, u64> {
        lock(&self.injected).iter().map(|(&name, &count)| (name.to_owned(), count)).collect()
    }

    /// Returns whether the registers currently read all ones.
    pub fn all_ones(&self) -> bool {
        if !self.is_armed() {
            return false;
        }
        if let Some(Kind::AllOnes(duration)) = self.fault_at(InjectionPoint::RegisterRead, None) {
            *lock(&self.all_ones) = Some(duration.until());
        }
        lock(&self.all_ones).is_some_and(|until| !until.is_over())
    }
}

#[cfg(test)]
mod tests {
    use super::super::FaultDuration;
    use super::*;
    use xdma_regs::Direction;

    #[test]
    fn opportunities_are_counted() {
        let injector = FaultInjector::default();
        let [here, there] = [0, 1].map(|index| Some(ChannelId { direction: Direction::H2C, index }));
        let fault_at = |channel| injector.fault_at(InjectionPoint::Descriptor, channel).is_some();
        assert!(!fault_at(here));
        injector.add(Kind::BadMagic.on(Direction::H2C, 0).after(1).times(2));
        assert!(
            !fault_at(here) && !fault_at(there) && injector.fault_at(InjectionPoint::Fetch, here).is_none()
        );
        assert!(fault_at(here) && !fault_at(there) && fault_at(here) && !fault_at(here));
        injector.add(Injection::from(Kind::BadMagic).times(0));
        assert!((0..9).all(|_| fault_at(here) && fault_at(there)));
        assert_eq!(injector.injected(), BTreeMap::from([("BadMagic".into(), 20)]));
    }

    #[test]
    fn all_ones_end() {
        let injector = FaultInjector::default();
        injector.add(Kind::AllOnes(FaultDuration::Millis(5)).into());
        assert!(injector.all_ones());
        std::thread::sleep(std::time::Duration::from_millis(6));
        assert!(!injector.all_ones());
    }
}
