//! Tracks the memory that the driver has released, to detect accesses to it by the card.

use super::link::PcieLink;
use super::log::{EventLog, Rule, lock};
use rangemap::RangeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// The state of the client's memory. Without reports from the client, nothing is tracked.
#[derive(Debug)]
pub(super) struct MemoryTracker {
    log: Arc<EventLog>,
    link: Arc<PcieLink>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Addresses that are mapped but released.
    released: RangeSet<u64>,
    /// Accesses by engines that are in progress.
    in_flight: Vec<Range<u64>>,
}

impl State {
    fn is_in_flight(&self, range: &Range<u64>) -> bool {
        self.in_flight.iter().any(|access| access.start < range.end && range.start < access.end)
    }
}

impl MemoryTracker {
    pub fn new(log: Arc<EventLog>, link: Arc<PcieLink>) -> Self {
        Self { log, link, state: Mutex::default() }
    }

    /// Records an access by an engine, which lasts until the guard is dropped.
    pub fn begin_access(&self, address: u64, len: u64) -> AccessGuard<'_> {
        let range = range(address, len);
        let mut state = lock(&self.state);
        if !range.is_empty() && state.released.overlaps(&range) {
            self.log.violation(Rule::ReleasedMemory, address, None);
        }
        state.in_flight.push(range.clone());
        AccessGuard { tracker: self, range }
    }

    /// Records a read of a whole beat. The bytes around those that the engine needs may have been released.
    #[cfg(any(feature = "rtl-f2", feature = "rtl-dma"))]
    pub fn begin_beat(&self, address: u64, len: u64) -> AccessGuard<'_> {
        let range = range(address, len);
        if !range.is_empty() && lock(&self.state).released.gaps(&range).next().is_none() {
            self.log.violation(Rule::ReleasedMemory, address, None);
        }
        // So releasing the bytes around is no violation either.
        AccessGuard { tracker: self, range: 0..0 }
    }

    /// Records that the client maps or unmaps these addresses. A driver may unmap memory only if the card no longer uses it, or
    /// if bus mastering is off.
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

    /// Forgets all releases: the client has disconnected, or bus mastering was turned off. The memory may have a new owner by the
    /// next access.
    pub fn clear(&self) {
        lock(&self.state).released.clear();
    }
}

impl MemoryTracker {
    /// Records that these addresses have been allocated.
    pub fn allocated(&self, address: u64, len: u64) {
        let range = range(address, len);
        if !range.is_empty() {
            lock(&self.state).released.remove(range);
        }
    }

    /// Records that these addresses have been released. The card must not use them any more.
    pub fn released(&self, address: u64, len: u64) {
        let range = range(address, len);
        let mut state = lock(&self.state);
        if state.is_in_flight(&range) {
            self.log.violation(Rule::ReleasedMemory, address, None);
        }
        // With bus mastering off the card cannot use any memory, so there is nothing to track.
        if !range.is_empty() && self.link.bus_master() {
            state.released.insert(range);
        }
    }
}

/// A handle through which a client reports its allocations and releases of device-visible memory.
///
/// Memory in a pool stays mapped after it is released, so neither the bus nor an IOMMU can detect a later access by the card. The
/// emulated card can, if its client reports releases: it records an access to released memory as a rule violation.
#[derive(Clone, Debug)]
pub struct ReleaseObserver(pub(super) Arc<MemoryTracker>);

impl ReleaseObserver {
    /// Reports that these addresses have been allocated.
    pub fn allocated(&self, address: u64, len: u64) {
        self.0.allocated(address, len);
    }

    /// Reports that these addresses have been released. The card must not use them any more.
    pub fn released(&self, address: u64, len: u64) {
        self.0.released(address, len);
    }
}

/// An access in progress.
pub(super) struct AccessGuard<'a> {
    tracker: &'a MemoryTracker,
    range: Range<u64>,
}

impl Drop for AccessGuard<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.tracker.state);
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

    fn tracker() -> (Arc<EventLog>, Arc<PcieLink>, MemoryTracker) {
        let (log, link) = (Arc::new(EventLog::default()), Arc::new(PcieLink::default()));
        link.set_bus_master(true);
        (log.clone(), link.clone(), MemoryTracker::new(log, link))
    }

    fn rules(log: &EventLog) -> Vec<(Rule, u64)> {
        log.violations().iter().map(|violation| (violation.rule, violation.address)).collect()
    }

    #[test]
    fn released_memory_must_not_be_used() {
        let (log, _, tracker) = tracker();
        drop(tracker.begin_access(0x1000, 64));
        tracker.allocated(0x1000, 64);
        drop(tracker.begin_access(0x1000, 64));
        assert_eq!(rules(&log), []);
        tracker.released(0x1000, 64);
        drop(tracker.begin_access(0x103c, 8));
        drop(tracker.begin_access(0x1040, 8));
        tracker.allocated(0x1000, 32);
        drop(tracker.begin_access(0x1000, 32));
        drop(tracker.begin_access(0x1010, 17));
        assert_eq!(rules(&log), [(Rule::ReleasedMemory, 0x103c), (Rule::ReleasedMemory, 0x1010)]);
    }

    #[test]
    fn memory_must_not_be_released_under_an_access() {
        let (log, link, tracker) = tracker();
        let (guard, other) = (tracker.begin_access(0x2000, 4096), tracker.begin_access(0x2000, 4096));
        tracker.released(0x1000, 4096);
        drop(guard);
        tracker.released(0x2fff, 1);
        tracker.remapped(0x2000, 1);
        link.set_bus_master(false);
        tracker.remapped(0x2000, 4096);
        drop(other);
        link.set_bus_master(true);
        tracker.remapped(0x2000, 4096);
        assert_eq!(rules(&log), [(Rule::ReleasedMemory, 0x2fff), (Rule::UnmappedInFlight, 0x2000)]);
    }
}
