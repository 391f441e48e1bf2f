//! The PCIM port of the F2 shell, through which the custom logic reaches host memory (AWS "Shell Interface Specification"). The shell
//! answers requests that break its rules with SLVERR. After a time-out, the port is dead.
//!
//! Reads are answered in order, after a latency that varies. READY is low now and then.

use super::metrics::{Event, Metrics};
use crate::channel::Shared;
use crate::guest::Cursor;
use crate::simulated_engine::Clients;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::sync::Arc;
use xdma_rtl_dma::{Axi, Bus};

const PAGE: u64 = 4096;
const BEAT: u64 = 64;
const OKAY: u8 = 0;
const SLVERR: u8 = 2;
const INCR: u8 = 1;
/// AxSIZE of whole beats.
const WHOLE: u8 = 6;
/// 8 microseconds at 250 MHz.
pub(super) const TIMEOUT: u64 = 2000;
/// AWS assumes that a read takes 2 microseconds on average.
const LATENCY: std::ops::Range<u64> = 400..600;
/// With latency spikes enabled, one in this many requests has a spike on average.
const SPIKES: u32 = 8;
/// On average, a READY signal is low in one of this many clocks.
const STALL: u32 = 16;

/// The limits of the shell about which sources contradict each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Reads under way.
    pub reads: usize,
    /// Whether reads with the same ID wait for each other.
    pub one_read_per_id: bool,
}

/// A burst whose address was accepted.
struct Burst {
    id: u8,
    /// The address of the request.
    from: u64,
    /// The address of the next beat of a read, or of the first byte of a write.
    address: u64,
    left: u32,
    /// The rule that it broke first.
    broken: Option<Event>,
    /// An injected fault hits it: a read fails, and a write is lost.
    hit: bool,
    /// The clock from which on its response may be sent.
    due: u64,
    /// The bytes of a write.
    data: Vec<u8>,
}

/// The response to a write.
struct Response {
    id: u8,
    resp: u8,
    /// The address of the request.
    from: u64,
    /// The clock from which on it may be sent.
    due: u64,
}

/// The port.
pub(super) struct Pcim {
    shared: Arc<Shared>,
    clients: Clients,
    limits: Limits,
    cursor: Cursor,
    rng: StdRng,
    reads: VecDeque<Burst>,
    writes: VecDeque<Burst>,
    responses: VecDeque<Response>,
    /// The beat that is offered, so that it is read only once.
    offered: Option<([u8; BEAT as usize], u8)>,
    /// The ID of a read that was valid and not accepted at the last edge.
    waiting: Option<u8>,
    /// The clocks for which the custom logic let W, R and B wait.
    waits: [u64; 3],
    dead: bool,
    /// The maximum number of clocks that a latency spike adds to a request; 0 without spikes.
    pub longest_spike: u64,
    cycle: u64,
    active: u64,
    pub metrics: Metrics,
}

impl Pcim {
    pub fn new(shared: &Arc<Shared>, limits: Limits) -> Self {
        Self {
            shared: Arc::clone(shared),
            clients: Clients::new(shared),
            limits,
            cursor: Cursor::default(),
            rng: StdRng::seed_from_u64(shared.options.seed),
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            responses: VecDeque::new(),
            offered: None,
            waiting: None,
            waits: [0; 3],
            dead: false,
            longest_spike: 0,
            cycle: 0,
            active: 0,
            metrics: Metrics::default(),
        }
    }

    /// Returns the clock of the last transfer, or the current one if something is under way.
    pub fn last_activity(&self) -> u64 {
        let open = !(self.reads.is_empty() && self.writes.is_empty() && self.responses.is_empty());
        if open { self.cycle } else { self.active }
    }

    /// Counts an access to a register as activity.
    pub fn touch(&mut self) {
        self.active = self.cycle;
    }

    /// Kills the port, as a time-out does. Only another image revives it.
    pub fn kill(&mut self) {
        self.dead = true;
        self.reads.clear();
        self.writes.clear();
        self.responses.clear();
        self.offered = None;
    }

    /// Returns the rule that an address breaks.
    fn check_address(&self, address: u64, len: u8, size: u8, burst: u8) -> Option<Event> {
        let last = address / BEAT * BEAT + u64::from(len) * BEAT;
        if !self.shared.link.bus_master() {
            Some(Event::BusMaster)
        } else if size != WHOLE || burst != INCR {
            Some(Event::RequestSize)
        } else if !address.is_multiple_of(4) {
            Some(Event::FirstBytes)
        } else if address / PAGE != last / PAGE {
            Some(Event::Crossing)
        } else {
            None
        }
    }

    fn accept(&mut self, id: u8, address: u64, len: u8, size: u8, burst: u8, write: bool) -> Burst {
        let broken = self.check_address(address, len, size, burst);
        let hit = self.clients.is_hit(id, write);
        let due = self.cycle + self.latency();
        Burst { id, from: address, address, left: u32::from(len) + 1, broken, hit, due, data: vec![] }
    }

    /// Reads the next beat of the oldest read.
    fn fetch(&mut self) -> Option<([u8; BEAT as usize], u8)> {
        let read = self.reads.front_mut().filter(|read| read.due <= self.cycle)?;
        let mut data = [0xff; BEAT as usize];
        if read.broken.is_some() || read.hit {
            return Some((data, SLVERR));
        }
        let from = read.address / BEAT * BEAT;
        match self.cursor.read_beat(&self.shared.guest, from, &mut data) {
            Ok(()) if self.clients.is_without_magic(read.id) => Some(([0; BEAT as usize], OKAY)),
            Ok(()) => Some((data, OKAY)),
            Err((iova, reason)) => {
                read.broken = Some(Event::Range);
                self.clients.refused(iova, reason, false, read.id);
                Some(([0xff; BEAT as usize], SLVERR))
            }
        }
    }

    /// Takes a beat of the oldest write.
    fn write(&mut self, port: &Axi) {
        let write = self.writes.front_mut().expect("WREADY is low without an address");
        let first = port.wstrb.trailing_zeros();
        let end = 64 - port.wstrb.leading_zeros();
        let begins = write.data.is_empty();
        write.left -= 1;
        let whole = if begins { u64::from(first & !3) == write.address % BEAT } else { first == 0 }
            && (write.left == 0 || end == 64);
        if port.wstrb == 0 || port.wstrb.count_ones() != end - first || !whole {
            write.broken = write.broken.or(Some(if begins { Event::FirstBytes } else { Event::LastBytes }));
        } else {
            if begins {
                write.address = write.address / BEAT * BEAT + u64::from(first);
            }
            write.data.extend_from_slice(&port.wdata[first as usize..end as usize]);
        }
        if (write.left == 0) != (port.wlast != 0) {
            write.broken = write.broken.or(Some(Event::WriteIncomplete));
        }
        if write.left == 0
            && let Some(write) = self.writes.pop_front()
        {
            self.complete(write);
        }
    }

    /// Passes a complete write on, unless it broke a rule.
    fn complete(&mut self, mut write: Burst) {
        if write.broken.is_none()
            && !write.hit
            && let Err((iova, reason)) = self.cursor.write(&self.shared.guest, write.address, &write.data)
        {
            self.clients.refused(iova, reason, true, write.id);
            write.broken = Some(Event::Range);
        }
        match write.broken {
            Some(event) => self.metrics.record(event, write.from),
            None => self.metrics.written += write.data.len().div_ceil(4) as u64,
        }
        let resp = if write.broken.is_some() { SLVERR } else { OKAY };
        let due = self.cycle + self.latency() / 2;
        let after = self.responses.back().map_or(0, |response| response.due);
        self.responses.push_back(Response { id: write.id, resp, from: write.from, due: due.max(after) });
    }

    /// Counts the clocks for which the custom logic lets the port wait.
    fn watch(&mut self, port: &Axi) {
        let waiting = [
            !self.writes.is_empty() && port.wvalid == 0,
            port.rvalid != 0 && port.rready == 0,
            port.bvalid != 0 && port.bready == 0,
        ];
        for (wait, waiting) in self.waits.iter_mut().zip(waiting) {
            *wait = if waiting { *wait + 1 } else { 0 };
        }
        let addresses = [
            (Event::WChannel, self.writes.front().map(|write| write.from)),
            (Event::RReady, self.reads.front().map(|read| read.from)),
            (Event::BReady, self.responses.front().map(|response| response.from)),
        ];
        let over = self.waits.iter().zip(addresses).find(|(wait, _)| **wait > TIMEOUT);
        if let Some((_, (event, address))) = over {
            self.metrics.record(event, address.unwrap_or(0));
            self.kill();
        }
    }

    /// Returns the number of clocks that a request takes.
    fn latency(&mut self) -> u64 {
        let spike = self.longest_spike > 0 && self.rng.random_ratio(1, SPIKES);
        let spike = if spike { self.rng.random_range(0..self.longest_spike) } else { 0 };
        self.rng.random_range(LATENCY) + spike
    }

    fn ready(&mut self) -> bool {
        !self.rng.random_ratio(1, STALL)
    }
}

impl Bus for Pcim {
    fn drive(&mut self, port: &mut Axi) {
        if self.dead {
            (port.awready, port.wready, port.arready, port.rvalid, port.bvalid) = (0, 0, 0, 0, 0);
            return;
        }
        let free = |id| self.reads.iter().all(|read| read.id != id);
        let room = self.reads.len() < self.limits.reads
            && (!self.limits.one_read_per_id || self.waiting.is_some_and(free));
        port.awready = u8::from(self.ready());
        port.wready = u8::from(self.ready() && !self.writes.is_empty());
        port.arready = u8::from(self.ready() && room);
        if self.offered.is_none() && self.ready() {
            self.offered = self.fetch();
        }
        port.rvalid = u8::from(self.offered.is_some());
        if let (Some((data, resp)), Some(read)) = (&self.offered, self.reads.front()) {
            port.rdata = *data;
            (port.rid, port.rresp, port.rlast) = (read.id, *resp, u8::from(read.left == 1));
        }
        let response = self.responses.front().filter(|response| response.due <= self.cycle);
        port.bvalid = u8::from(response.is_some());
        if let Some(response) = response {
            (port.bid, port.bresp) = (response.id, response.resp);
        }
    }

    fn take(&mut self, port: &Axi) {
        self.cycle += 1;
        if self.dead {
            return;
        }
        if port.rvalid & port.rready != 0 {
            self.offered = None;
            let read = self.reads.front_mut().expect("a beat of the oldest read was offered");
            read.address = read.address / BEAT * BEAT + BEAT;
            read.left -= 1;
            match (port.rresp, read.left, read.broken) {
                (OKAY, ..) => self.metrics.read += BEAT / 4,
                (_, 0, Some(event)) => self.metrics.record(event, read.from),
                _ => {}
            }
            if read.left == 0 {
                self.reads.pop_front();
            }
        }
        if port.bvalid & port.bready != 0 {
            self.responses.pop_front();
        }
        if port.wvalid & port.wready != 0 {
            self.write(port);
        }
        self.waiting = (port.arvalid & !port.arready != 0).then_some(port.arid);
        if port.arvalid & port.arready != 0 {
            let read = self.accept(port.arid, port.araddr, port.arlen, port.arsize, port.arburst, false);
            self.reads.push_back(read);
        }
        if port.awvalid & port.awready != 0 {
            let write = self.accept(port.awid, port.awaddr, port.awlen, port.awsize, port.awburst, true);
            self.writes.push_back(write);
        }
        self.watch(port);
        if (port.arvalid | port.rvalid | port.awvalid | port.wvalid | port.bvalid) != 0 {
            self.active = self.cycle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EmulatorOptions;
    use crate::card::CardModel;
    use crate::guest::Permissions;
    use crate::logic::Memory;
    use xdma_card_file::CardFile;

    const IOVA: u64 = 0x12_3400_0000;

    /// A port with 64 KiB of host memory, and its signals.
    struct Rig {
        pcim: Pcim,
        port: Axi,
    }

    fn rig() -> Rig {
        limited(Limits { reads: 32, one_read_per_id: false })
    }

    fn limited(limits: Limits) -> Rig {
        let options = EmulatorOptions::like(CardFile::f2());
        let shared = Arc::new(CardModel::shared(options, Arc::new(Memory::with_size(0))));
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x1_0000).unwrap();
        let allowed = Permissions { read: true, write: true };
        shared.guest.map(IOVA, 0x1_0000, allowed, Some(&file), 0).unwrap();
        shared.link.set_bus_master(true);
        Rig { pcim: Pcim::new(&shared, limits), port: Axi { bready: 1, rready: 1, ..Axi::default() } }
    }

    impl Rig {
        fn clock(&mut self) {
            self.pcim.drive(&mut self.port);
            let port = self.port.clone();
            self.pcim.take(&port);
            self.port.awvalid &= !port.awready;
            self.port.arvalid &= !port.arready;
        }

        fn address(&mut self, address: u64, beats: u8, size: u8, burst: u8) {
            (self.port.awvalid, self.port.awaddr, self.port.awlen) = (1, address, beats - 1);
            (self.port.awsize, self.port.awburst) = (size, burst);
            while self.port.awvalid != 0 {
                self.clock();
            }
        }

        fn beat(&mut self, strobes: u64, last: bool) {
            (self.port.wvalid, self.port.wstrb, self.port.wlast) = (1, strobes, u8::from(last));
            self.port.wdata = [0x5a; 64];
            while self.port.wready == 0 || self.port.wvalid == 0 {
                self.clock();
            }
            self.port.wvalid = 0;
            self.port.wready = 0;
        }

        fn response(&mut self) -> u8 {
            while self.port.bvalid == 0 {
                self.clock();
            }
            let resp = self.port.bresp;
            self.clock();
            resp
        }

        fn read(&mut self, address: u64, beats: u8) -> (u8, [u8; 64], u64) {
            self.read_as(address, beats, WHOLE, INCR)
        }

        fn read_as(&mut self, address: u64, beats: u8, size: u8, burst: u8) -> (u8, [u8; 64], u64) {
            (self.port.arvalid, self.port.araddr, self.port.arlen) = (1, address, beats - 1);
            (self.port.arsize, self.port.arburst) = (size, burst);
            let begin = self.pcim.cycle;
            loop {
                self.clock();
                if self.port.rvalid & self.port.rlast != 0 {
                    return (self.port.rresp, self.port.rdata, self.pcim.cycle - begin);
                }
            }
        }

        fn metric(&self, name: &str) -> u64 {
            self.pcim.metrics.by_name()[name]
        }

        fn byte(&mut self, at: u64) -> u8 {
            let (resp, data, _) = self.read(at / 64 * 64, 1);
            assert_eq!(resp, OKAY);
            data[(at % 64) as usize]
        }
    }

    #[test]
    fn a_correct_write_arrives_and_is_counted() {
        let mut rig = rig();
        rig.address(IOVA + 4, 2, WHOLE, INCR);
        rig.beat(!0xf, false);
        rig.beat(0xff, true);
        assert_eq!(rig.response(), OKAY);
        assert_eq!([3, 4, 63, 71, 72].map(|at| rig.byte(IOVA + at)), [0, 0x5a, 0x5a, 0x5a, 0]);
        assert_eq!(rig.metric("pcim-write-count"), 17);
        let errors = rig.pcim.metrics.by_name().into_iter().filter(|(name, _)| name.contains("error"));
        assert!(errors.map(|(_, count)| count).all(|count| count == 0));
    }

    /// A write that breaks a rule: address, size, burst type, and the strobes and WLAST of its beats.
    type Broken = (u64, u8, u8, &'static [(u64, bool)], &'static str);

    #[test]
    fn a_write_that_breaks_a_rule_is_refused_and_counted() {
        const ALL: u64 = u64::MAX;
        let broken: [Broken; 13] = [
            (IOVA, 5, INCR, &[(ALL, true)], "pcim-axi-protocol-request-size-error"),
            (IOVA, WHOLE, 0, &[(ALL, true)], "pcim-axi-protocol-request-size-error"),
            (IOVA + 4032, WHOLE, INCR, &[(ALL, false), (ALL, true)], "pcim-axi-protocol-4K-cross-error"),
            (IOVA + 1, WHOLE, INCR, &[(ALL, true)], "pcim-axi-protocol-first-byte-enable-error"),
            (IOVA, WHOLE, INCR, &[(!0xf, true)], "pcim-axi-protocol-first-byte-enable-error"),
            (IOVA, WHOLE, INCR, &[(0xf00f, true)], "pcim-axi-protocol-first-byte-enable-error"),
            (IOVA, WHOLE, INCR, &[(0xff, false), (ALL, true)], "pcim-axi-protocol-first-byte-enable-error"),
            (IOVA, WHOLE, INCR, &[(0, true)], "pcim-axi-protocol-first-byte-enable-error"),
            (IOVA, WHOLE, INCR, &[(ALL, false), (!1, true)], "pcim-axi-protocol-last-byte-enable-error"),
            (IOVA, WHOLE, INCR, &[(ALL, false), (0xf00f, true)], "pcim-axi-protocol-last-byte-enable-error"),
            (IOVA, WHOLE, INCR, &[(ALL, false)], "pcim-axi-protocol-write-incomplete-error"),
            (IOVA, WHOLE, INCR, &[(ALL, true), (ALL, true)], "pcim-axi-protocol-write-incomplete-error"),
            (IOVA + 0x1_0000, WHOLE, INCR, &[(ALL, true)], "pcim-range-error"),
        ];
        for (address, size, burst, beats, name) in broken {
            let mut rig = rig();
            rig.address(address, beats.len() as u8, size, burst);
            beats.iter().for_each(|&(strobes, last)| rig.beat(strobes, last));
            assert_eq!(rig.response(), SLVERR, "{name}");
            assert_eq!((rig.metric(name), rig.metric("pcim-write-count")), (1, 0), "{name}");
            let kind = if name.contains("range") { name } else { "pcim-axi-protocol-error" };
            let first = ["addr", "count"].map(|value| rig.metric(&format!("{kind}-{value}")));
            assert_eq!(first, [address, 1], "{name}");
            assert_eq!(rig.byte(IOVA + 32), 0, "{name}: nothing is passed on");
        }
        let mut rig = rig();
        rig.pcim.shared.link.set_bus_master(false);
        rig.address(IOVA, 1, WHOLE, INCR);
        rig.beat(ALL, true);
        assert_eq!(rig.response(), SLVERR);
        assert_eq!(rig.metric("pcim-axi-protocol-bus-master-enable-error"), 1);
        rig.pcim.shared.link.set_bus_master(true);
        assert_eq!(rig.byte(IOVA), 0);
    }

    #[test]
    fn reads_are_refused_by_the_same_rules() {
        for (address, beats, size, burst, name) in [
            (IOVA, 1, 5, INCR, "pcim-axi-protocol-request-size-error"),
            (IOVA, 1, WHOLE, 0, "pcim-axi-protocol-request-size-error"),
            (IOVA + 4032, 2, WHOLE, INCR, "pcim-axi-protocol-4K-cross-error"),
            (IOVA + 2, 1, WHOLE, INCR, "pcim-axi-protocol-first-byte-enable-error"),
            (IOVA - 64, 1, WHOLE, INCR, "pcim-range-error"),
        ] {
            let mut rig = rig();
            let (resp, data, _) = rig.read_as(address, beats, size, burst);
            rig.clock();
            assert_eq!((resp, data, rig.metric(name)), (SLVERR, [0xff; 64], 1), "{name}");
        }
        let mut rig = rig();
        rig.pcim.shared.link.set_bus_master(false);
        assert_eq!(rig.read(IOVA, 1).0, SLVERR);
        rig.clock();
        assert_eq!(rig.metric("pcim-axi-protocol-bus-master-enable-error"), 1);
    }

    #[test]
    fn eight_microseconds_without_data_or_ready_kill_the_port() {
        for name in ["wchannel", "rready", "bready"] {
            let mut rig = rig();
            match name {
                "wchannel" => rig.address(IOVA, 2, WHOLE, INCR),
                "rready" => {
                    rig.port.rready = 0;
                    _ = rig.read(IOVA, 1);
                }
                _ => {
                    rig.port.bready = 0;
                    rig.address(IOVA, 1, WHOLE, INCR);
                    rig.beat(u64::MAX, true);
                }
            }
            (0..TIMEOUT - 2).for_each(|_| rig.clock());
            assert!(!rig.pcim.dead, "{name}");
            (0..700).for_each(|_| rig.clock());
            assert!(rig.pcim.dead, "{name}");
            assert_eq!(rig.metric(&format!("pcim-axi-protocol-{name}-error")), 1);
            rig.port.arvalid = 1;
            (0..2 * TIMEOUT).for_each(|_| rig.clock());
            assert_eq!(
                (rig.port.arvalid, rig.port.rvalid, rig.port.bvalid),
                (1, 0, 0),
                "nothing is accepted"
            );
        }
    }

    #[test]
    fn reads_take_their_latency_and_are_limited() {
        let mut rig = limited(Limits { reads: 2, one_read_per_id: false });
        assert!(rig.read(IOVA, 1).2 >= LATENCY.start);
        for (limits, accepted) in [
            (Limits { reads: 2, one_read_per_id: false }, 2),
            (Limits { reads: 32, one_read_per_id: true }, 1),
        ] {
            let mut rig = limited(limits);
            let mut count = 0;
            (rig.port.araddr, rig.port.arsize, rig.port.arburst) = (IOVA, WHOLE, INCR);
            for _ in 0..LATENCY.start - 100 {
                rig.port.arvalid = 1;
                rig.clock();
                count += u32::from(rig.port.arvalid == 0);
            }
            assert_eq!(count, accepted, "{limits:?}");
        }
    }
}
