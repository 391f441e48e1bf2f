//! A witness of what the driver says about its memory: that the card uses none that was released.

use super::link::Link;
use super::log::{Log, Rule, lock};
use rangemap::RangeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// What the client's memory is now. A client that says nothing of releases is not watched.
#[derive(Debug)]
pub(super) struct Watch {
    log: Arc<Log>,
    link: Arc<Link>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Mapped, and nobody's.
    released: RangeSet<u64>,
    /// What engines access at this moment.
    in_flight: Vec<Range<u64>>,
}

impl State {
    fn is_in_flight(&self, range: &Range<u64>) -> bool {
        self.in_flight.iter().any(|access| access.start < range.end && range.start < access.end)
    }
}

impl Watch {
    pub fn new(log: Arc<Log>, link: Arc<Link>) -> Self {
        Self { log, link, state: Mutex::default() }
    }

    /// An engine accesses this memory until the pass is dropped.
    pub fn enter(&self, address: u64, len: u64) -> Pass<'_> {
        let range = range(address, len);
        let mut state = lock(&self.state);
        if !range.is_empty() && state.released.overlaps(&range) {
            self.log.violation(Rule::ReleasedMemory, address, None);
        }
        state.in_flight.push(range.clone());
        Pass { watch: self, range }
    }

    /// The client maps or unmaps these addresses. A driver takes memory away from a card that is done with it, or that may no
    /// longer use any.
    pub fn remapped(&self, address: u64, len: u64) {
        let range = range(address, len);
        let mut state = lock(&self.state);
        if self.link.bus_master() && state.is_in_flight(&range) {
            self.log.violation(Rule::UnmappedInFlight, address, None);
        }
        if !range.is_empty() {
            state.released.remove(range);
        }
    }

    /// The client is gone, or the card may not access memory: from here on it is somebody else's.
    pub fn forget(&self) {
        lock(&self.state).released.clear();
    }
}

impl Watch {
    /// From now on these addresses belong to somebody.
    pub fn taken(&self, address: u64, len: u64) {
        let range = range(address, len);
        if !range.is_empty() {
            lock(&self.state).released.remove(range);
        }
    }

    /// From now on they belong to nobody: the card must be done with them.
    pub fn released(&self, address: u64, len: u64) {
        let range = range(address, len);
        let mut state = lock(&self.state);
        if state.is_in_flight(&range) {
            self.log.violation(Rule::ReleasedMemory, address, None);
        }
        // A card that may not access memory is done with all of it, whoever has it next.
        if !range.is_empty() && self.link.bus_master() {
            state.released.insert(range);
        }
    }
}

/// Learns which device addresses a card may use.
///
/// Memory in a pool stays mapped when it is released, so no bus and no IOMMU can tell that a card uses it afterwards. The emulated
/// card can, if its client tells: it takes an access to released memory for a broken rule.
#[derive(Clone, Debug)]
pub struct Witness(pub(super) Arc<Watch>);

impl Witness {
    /// From now on these addresses belong to somebody.
    pub fn taken(&self, address: u64, len: u64) {
        self.0.taken(address, len);
    }

    /// From now on they belong to nobody: the card must be done with them.
    pub fn released(&self, address: u64, len: u64) {
        self.0.released(address, len);
    }
}

/// An access under way.
pub(super) struct Pass<'a> {
    watch: &'a Watch,
    range: Range<u64>,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.watch.state);
        if let Some(at) = state.in_flight.iter().position(|range| *range == self.range) {
            state.in_flight.swap_remove(at);
        }
    }
}

fn range(address: u64, len: u64) -> Range<u64> {
    address..address.saturating_add(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> (Arc<Log>, Arc<Link>, Watch) {
        let (log, link) = (Arc::new(Log::default()), Arc::new(Link::default()));
        link.set_bus_master(true);
        (log.clone(), link.clone(), Watch::new(log, link))
    }

    fn rules(log: &Log) -> Vec<(Rule, u64)> {
        log.violations().iter().map(|violation| (violation.rule, violation.address)).collect()
    }

    #[test]
    fn released_memory_must_not_be_used() {
        let (log, _, watch) = watch();
        drop(watch.enter(0x1000, 64));
        watch.taken(0x1000, 64);
        drop(watch.enter(0x1000, 64));
        assert_eq!(rules(&log), []);
        watch.released(0x1000, 64);
        drop(watch.enter(0x103c, 8));
        drop(watch.enter(0x1040, 8));
        watch.taken(0x1000, 32);
        drop(watch.enter(0x1000, 32));
        drop(watch.enter(0x1010, 17));
        assert_eq!(rules(&log), [(Rule::ReleasedMemory, 0x103c), (Rule::ReleasedMemory, 0x1010)]);
    }

    #[test]
    fn memory_must_not_be_released_under_an_access() {
        let (log, link, watch) = watch();
        let (pass, other) = (watch.enter(0x2000, 4096), watch.enter(0x2000, 4096));
        watch.released(0x1000, 4096);
        drop(pass);
        watch.released(0x2fff, 1);
        watch.remapped(0x2000, 1);
        link.set_bus_master(false);
        watch.remapped(0x2000, 4096);
        drop(other);
        link.set_bus_master(true);
        watch.remapped(0x2000, 4096);
        assert_eq!(rules(&log), [(Rule::ReleasedMemory, 0x2fff), (Rule::UnmappedInFlight, 0x2000)]);
    }
}
