//! The counters of the shell, as `fpga-describe-local-image --metrics` prints them.

use std::collections::BTreeMap;

/// What the shell counts. The errors of PCIM are in the order of AWS's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Metric {
    /// An access outside of the host memory that the function may access.
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
    /// The time-outs after which the port is dead.
    BReady,
    RReady,
    WChannel,
    /// Double words written, and read.
    Written,
    Read,
    OclTimeout,
    PcisTimeout,
}

impl Metric {
    const ALL: [(Self, &'static str); 14] = [
        (Self::Range, "pcim-range-error"),
        (Self::Crossing, "pcim-axi-protocol-4K-cross-error"),
        (Self::BusMaster, "pcim-axi-protocol-bus-master-enable-error"),
        (Self::RequestSize, "pcim-axi-protocol-request-size-error"),
        (Self::WriteIncomplete, "pcim-axi-protocol-write-incomplete-error"),
        (Self::FirstBytes, "pcim-axi-protocol-first-byte-enable-error"),
        (Self::LastBytes, "pcim-axi-protocol-last-byte-enable-error"),
        (Self::BReady, "pcim-axi-protocol-bready-error"),
        (Self::RReady, "pcim-axi-protocol-rready-error"),
        (Self::WChannel, "pcim-axi-protocol-wchannel-error"),
        (Self::Written, "pcim-write-count"),
        (Self::Read, "pcim-read-count"),
        (Self::OclTimeout, "ocl-slave-timeout-count"),
        (Self::PcisTimeout, "dma-pcis-timeout-count"),
    ];
}

#[derive(Clone, Debug, Default)]
pub(super) struct Metrics(BTreeMap<Metric, u64>);

impl Metrics {
    pub fn add(&mut self, metric: Metric, count: u64) {
        *self.0.entry(metric).or_default() += count;
    }

    /// Returns all counters by name.
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let value = |metric| self.0.get(&metric).copied().unwrap_or(0);
        Metric::ALL.map(|(metric, name)| (name.to_owned(), value(metric))).into()
    }
}
