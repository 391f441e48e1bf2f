//! The model and its tables.

use std::fmt::Write;
use xdma_emulated_card::emulator::logic::msm::CoreCycles;

/// Window bits of the design.
const WINDOW_BITS: u8 = 13;
/// Bytes of a pair: a point and a scalar. Both are sent to the card for each sum.
const PAIR_BYTES: f64 = 96.0;
const POINT_BYTES: f64 = 64.0;
const SCALAR_BYTES: f64 = 32.0;
/// Accesses to a scalar in memory before the card reads it: the copy to DMA memory reads it, and reads and writes the
/// destination.
const COPY_ACCESSES: f64 = 3.0;
/// Pairs of the sums of a proof of the example `prove`.
const PROOF_SUMS: [u64; 4] = [8192, 5574, 5578, 5578];
/// Cards that share a NUMA node and the uplink of a PCIe switch.
const CARDS_PER_NODE: u64 = 8;
/// Cards of a host in the table of hosts.
const CARDS_PER_HOST: u64 = 8;

/// Inputs: bytes and cycles per second, and seconds.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// Clock of the design.
    pub clock: f64,
    /// Bandwidth of a card's link.
    pub link: f64,
    /// Bandwidth of the uplink of a PCIe switch.
    pub uplink: f64,
    /// Memory bandwidth of a NUMA node.
    pub memory: f64,
    /// Bandwidth of a host's network.
    pub network: f64,
    /// Time of one level of a reduction.
    pub level: f64,
    /// Processor seconds of a proof apart from its sums.
    pub cpu: f64,
    /// Whether each part is checked by tags.
    pub check: bool,
}

impl Default for Inputs {
    fn default() -> Self {
        Self {
            clock: 250e6,
            link: 12e9,
            uplink: 12e9,
            memory: 60e9,
            network: 25e9 / 8.0,
            level: 0.1e-3,
            cpu: 0.11,
            check: false,
        }
    }
}

impl Inputs {
    /// Returns the number of times a card computes each part.
    fn repeats(&self) -> f64 {
        if self.check { 2.0 } else { 1.0 }
    }

    /// Returns the pairs per second of a card's core, without reductions.
    fn card_rate(&self) -> f64 {
        self.clock / CoreCycles::new(WINDOW_BITS).windows() as f64 / self.repeats()
    }

    /// Returns the bytes of host memory accessed for each pair.
    fn memory_bytes(&self) -> f64 {
        PAIR_BYTES * self.repeats() + COPY_ACCESSES * SCALAR_BYTES
    }

    /// Returns the pairs per second of each card when `cards` cards of a host compute at the same time.
    fn rate(&self, cards: u64) -> f64 {
        let sharing = cards.min(CARDS_PER_NODE) as f64;
        let rates = [
            self.card_rate(),
            self.link / (PAIR_BYTES * self.repeats()),
            self.uplink / (PAIR_BYTES * self.repeats()) / sharing,
            self.memory / self.memory_bytes() / sharing,
        ];
        rates.into_iter().fold(f64::INFINITY, f64::min)
    }

    /// Returns the seconds that a card needs for a part, while `cards` cards compute.
    fn part(&self, pairs: u64, cards: u64) -> f64 {
        let reduction = CoreCycles::new(WINDOW_BITS).reduction(true) as f64 / self.clock;
        pairs as f64 / self.rate(cards) + reduction * self.repeats()
    }

    /// Returns the seconds of a sum that is split over the cards of a host.
    fn sum(&self, pairs: u64, cards: u64) -> f64 {
        self.part(pairs.div_ceil(cards), cards)
    }

    /// Returns the seconds for sending scalars to other hosts, for computing the sum on all cards, and for the reduction.
    fn sum_over_hosts(&self, pairs: u64, hosts: u64) -> [f64; 3] {
        // The root sends the parts of all other hosts through its own network link.
        let sent = pairs as f64 * SCALAR_BYTES * (hosts - 1) as f64 / hosts as f64;
        let levels = hosts.next_power_of_two().trailing_zeros();
        let compute = self.sum(pairs.div_ceil(hosts), CARDS_PER_HOST);
        [sent / self.network, compute, f64::from(levels) * self.level]
    }

    /// Returns the seconds of a card for the sums of a proof.
    fn proof(&self) -> f64 {
        PROOF_SUMS.iter().map(|pairs| self.part(*pairs, 1)).sum()
    }

    /// Returns each resource, and how many continuously computing cards it can feed.
    fn cards_fed(&self) -> [(&'static str, f64); 5] {
        let (rate, repeats) = (self.card_rate(), self.repeats());
        [
            ("a link of a card", self.link / (rate * PAIR_BYTES * repeats)),
            ("an uplink of a PCIe switch", self.uplink / (rate * PAIR_BYTES * repeats)),
            ("the memory of a NUMA node", self.memory / (rate * self.memory_bytes())),
            ("a host's network, if scalars come through it", self.network / (rate * SCALAR_BYTES)),
            ("64 processors that compute the rest of the proofs", 64.0 / self.cpu * self.proof()),
        ]
    }
}

/// Returns the tables, as Markdown.
pub fn tables(inputs: &Inputs) -> String {
    let mut text = String::new();
    // Writing to a `String` does not fail.
    let _ = cards_table(&mut text, inputs);
    let _ = hosts_table(&mut text, inputs);
    let _ = limits_table(&mut text, inputs);
    text
}

fn cards_table(text: &mut String, inputs: &Inputs) -> std::fmt::Result {
    writeln!(
        text,
        "| pairs | cards | ms for a sum | efficiency | sums/s, each split | sums/s, one per card |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for exponent in [16, 20, 24] {
        for cards in [1, 2, 4, 8] {
            let (one, all) = (inputs.sum(1 << exponent, 1), inputs.sum(1 << exponent, cards));
            let efficiency = one / all / cards as f64 * 100.0;
            let whole = cards as f64 / inputs.part(1 << exponent, cards);
            writeln!(
                text,
                "| 2^{exponent} | {cards} | {:.1} | {efficiency:.0} % | {:.1} | {whole:.1} |",
                all * 1e3,
                1.0 / all
            )?;
        }
    }
    writeln!(text)
}

fn hosts_table(text: &mut String, inputs: &Inputs) -> std::fmt::Result {
    let fast = Inputs { network: 4.0 * inputs.network, ..*inputs };
    let gigabits = |inputs: &Inputs| inputs.network * 8.0 / 1e9;
    writeln!(
        text,
        "| pairs | hosts | cards, ms | reduction, ms | {0:.0} Gbit/s: scalars, ms | sum, ms | speed-up | {1:.0} Gbit/s: scalars, ms | sum, ms | speed-up |",
        gigabits(inputs),
        gigabits(&fast)
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|---|")?;
    for exponent in [20, 24] {
        let alone = inputs.sum(1 << exponent, CARDS_PER_HOST);
        for hosts in [1, 2, 4, 8] {
            let [_, cards, reduction] = inputs.sum_over_hosts(1 << exponent, hosts);
            write!(text, "| 2^{exponent} | {hosts} | {:.1} | {:.1} |", cards * 1e3, reduction * 1e3)?;
            for network in [inputs, &fast] {
                let parts = network.sum_over_hosts(1 << exponent, hosts);
                let all: f64 = parts.iter().sum();
                write!(text, " {:.1} | {:.1} | {:.2} |", parts[0] * 1e3, all * 1e3, alone / all)?;
            }
            writeln!(text)?;
        }
    }
    writeln!(text)
}

fn limits_table(text: &mut String, inputs: &Inputs) -> std::fmt::Result {
    let rate = inputs.card_rate();
    writeln!(text, "| resource | cards that it feeds |")?;
    writeln!(text, "|---|---|")?;
    for (resource, cards) in inputs.cards_fed() {
        writeln!(text, "| {resource} | {cards:.1} |")?;
    }
    let gigabytes = |bytes: f64| bytes * rate / 1e9;
    writeln!(
        text,
        "\nA card consumes {:.1} million pairs per second: {:.2} GB/s over its link, {:.2} GB/s of memory accesses, and {:.2} GB/s of \
         new scalars. Its copy of 2^26 points takes {:.0} GiB. It computes the sums of {:.0} small proofs per second.",
        rate / 1e6,
        gigabytes(PAIR_BYTES * inputs.repeats()),
        gigabytes(inputs.memory_bytes()),
        gigabytes(SCALAR_BYTES),
        POINT_BYTES * inputs.repeats() * f64::from(1 << 26) / f64::from(1 << 30),
        1.0 / inputs.proof()
    )
}
