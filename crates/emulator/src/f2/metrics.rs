//! The shell's metrics, by the names that `fpga-describe-local-image --metrics` prints on F2 (aws-fpga, branch f2,
//! sdk/userspace/fpga_mgmt_tools/src/fpga_local_cmd.c, `print_f2_metrics`, and "How To Detect Shell Timeout").
//!
//! An event sets a flag, 0 or 1. Events are counted by kind, and the address of the first of each kind is kept. The metrics of parts
//! that the model does not have are left out: SDA, virtual JTAG, DDR4.

use std::collections::{BTreeMap, BTreeSet};

/// What the shell records. The rules of PCIM are in the order in which the tool prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// PCIM: an access outside of the host memory that the function may access.
    Range,
    Crossing,
    BusMaster,
    RequestSize,
    /// WLAST is not at the beat that the length implies.
    WriteIncomplete,
    /// The first beat of a burst: the strobes do not begin at the address, or have holes.
    FirstBytes,
    /// The same for the other beats.
    LastBytes,
    /// The time-outs after which PCIM is dead.
    BReady,
    RReady,
    WChannel,
    /// The custom logic did not answer an access of the host.
    OclTimeout,
    PcisTimeout,
}

/// The flags of single rules. The other events have only the flag of their kind.
const RULES: [(Event, &str); 9] = [
    (Event::Crossing, "pcim-axi-protocol-4K-cross-error"),
    (Event::BusMaster, "pcim-axi-protocol-bus-master-enable-error"),
    (Event::RequestSize, "pcim-axi-protocol-request-size-error"),
    (Event::WriteIncomplete, "pcim-axi-protocol-write-incomplete-error"),
    (Event::FirstBytes, "pcim-axi-protocol-first-byte-enable-error"),
    (Event::LastBytes, "pcim-axi-protocol-last-byte-enable-error"),
    (Event::BReady, "pcim-axi-protocol-bready-error"),
    (Event::RReady, "pcim-axi-protocol-rready-error"),
    (Event::WChannel, "pcim-axi-protocol-wchannel-error"),
];

const RANGE: &str = "pcim-range-error";
const PROTOCOL: &str = "pcim-axi-protocol-error";
const OCL: &str = "ocl-slave-timeout";
const PCIS: &str = "dma-pcis-timeout";

impl Event {
    fn kind(self) -> &'static str {
        match self {
            Self::Range => RANGE,
            Self::OclTimeout => OCL,
            Self::PcisTimeout => PCIS,
            _ => PROTOCOL,
        }
    }
}

/// The events of a kind.
#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    count: u64,
    first: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    seen: BTreeSet<Event>,
    kinds: BTreeMap<&'static str, Kind>,
    /// Double words that PCIM wrote and read.
    pub written: u64,
    pub read: u64,
}

impl Metrics {
    /// Records an event. The address is that of the access; for a time-out of OCL or PCIS, use [`timed_out`](Self::timed_out).
    pub fn record(&mut self, event: Event, address: u64) {
        self.seen.insert(event);
        let kind = self.kinds.entry(event.kind()).or_insert(Kind { count: 0, first: address });
        kind.count += 1;
    }

    /// Records a time-out of an access of the host. The two lowest bits of the recorded address tell its kind: 1 for a
    /// read, 2 for a write.
    pub fn timed_out(&mut self, port: Event, address: u64, write: bool) {
        self.record(port, address & !3 | if write { 2 } else { 1 });
    }

    /// Returns all values by name.
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let rules = RULES.map(|(event, name)| (name.to_owned(), self.seen.contains(&event).into()));
        let kinds = [RANGE, PROTOCOL, OCL, PCIS].into_iter().flat_map(|name| {
            let Kind { count, first } = self.kinds.get(name).copied().unwrap_or_default();
            [(name.into(), count.min(1)), (format!("{name}-addr"), first), (format!("{name}-count"), count)]
        });
        let words = [("pcim-write-count".into(), self.written), ("pcim-read-count".into(), self.read)];
        rules.into_iter().chain(kinds).chain(words).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_set_flags_and_are_counted_by_kind() {
        let mut metrics = Metrics::default();
        assert!(metrics.by_name().values().all(|&value| value == 0));
        metrics.record(Event::Crossing, 0x1fc0);
        metrics.record(Event::Crossing, 0x2fc0);
        metrics.record(Event::BReady, 0x3000);
        metrics.timed_out(Event::OclTimeout, 0x44, false);
        metrics.timed_out(Event::PcisTimeout, 0x1_0000_0003, true);
        metrics.read = 7;
        let expected = [
            ("dma-pcis-timeout", 1),
            ("dma-pcis-timeout-addr", 0x1_0000_0002),
            ("dma-pcis-timeout-count", 1),
            ("ocl-slave-timeout", 1),
            ("ocl-slave-timeout-addr", 0x45),
            ("ocl-slave-timeout-count", 1),
            ("pcim-axi-protocol-4K-cross-error", 1),
            ("pcim-axi-protocol-bready-error", 1),
            ("pcim-axi-protocol-error", 1),
            ("pcim-axi-protocol-error-addr", 0x1fc0),
            ("pcim-axi-protocol-error-count", 3),
            ("pcim-read-count", 7),
        ];
        let found = metrics.by_name();
        let set: Vec<_> =
            found.iter().filter(|(_, value)| **value > 0).map(|(name, v)| (&**name, *v)).collect();
        assert_eq!(set, expected);
        assert_eq!(found.len(), 23);
    }
}
