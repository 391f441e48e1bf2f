//! The PCIM port of the F2 shell: host memory behind rules whose violation the shell answers with SLVERR, and time-outs after which it
//! is dead (AWS "Shell Interface Specification").
//!
//! Reads are answered in order, after a latency that varies. READY is low now and then.

use super::metrics::{Metric, Metrics};
use crate::channel::Shared;
use crate::guest::Cursor;
use crate::log::{ChannelId, DmaFault, DmaFaultReason, Purpose};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::sync::Arc;
use xdma_regs::Direction;
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
/// A READY signal is low in one of this number of clocks.
const STALL: u32 = 16;

/// The behaviour of a shell where sources contradict each other.
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
    /// Of the next beat of a read, and of the first byte of a write.
    address: u64,
    left: u32,
    /// The rule that it broke first.
    broken: Option<Metric>,
    /// The clock from which on its response may be sent.
    due: u64,
    /// The bytes of a write.
    data: Vec<u8>,
}

/// The port.
pub(super) struct Pcim {
    shared: Arc<Shared>,
    limits: Limits,
    cursor: Cursor,
    rng: StdRng,
    reads: VecDeque<Burst>,
    writes: VecDeque<Burst>,
    /// The responses to writes: ID, response, and the clock from which on it may be sent.
    responses: VecDeque<(u8, u8, u64)>,
    /// The beat that is offered, so that it is read only once.
    offered: Option<([u8; BEAT as usize], u8)>,
    /// The ID of a read that was valid and not accepted at the last edge.
    waiting: Option<u8>,
    /// The clocks for which the custom logic let W, R and B wait.
    waits: [u64; 3],
    dead: bool,
    cycle: u64,
    active: u64,
    pub metrics: Metrics,
}

impl Pcim {
    pub fn new(shared: &Arc<Shared>, limits: Limits) -> Self {
        Self {
            shared: Arc::clone(shared),
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
    pub fn kill(&mut self, reason: Metric) {
        self.metrics.add(reason, 1);
        self.dead = true;
        self.reads.clear();
        self.writes.clear();
        self.responses.clear();
        self.offered = None;
    }

    /// Returns the rule that an address breaks.
    fn check_address(&self, address: u64, len: u8, size: u8, burst: u8) -> Option<Metric> {
        let last = address / BEAT * BEAT + u64::from(len) * BEAT;
        if !self.shared.link.bus_master() {
            Some(Metric::BusMaster)
        } else if size != WHOLE || burst != INCR {
            Some(Metric::RequestSize)
        } else if !address.is_multiple_of(4) {
            Some(Metric::FirstBytes)
        } else if address / PAGE != last / PAGE {
            Some(Metric::Crossing)
        } else {
            None
        }
    }

    fn accept(&mut self, id: u8, address: u64, len: u8, size: u8, burst: u8) -> Burst {
        let broken = self.check_address(address, len, size, burst);
        let latency = self.rng.random_range(LATENCY);
        Burst {
            id,
            address,
            left: u32::from(len) + 1,
            broken,
            due: self.cycle + latency,
            data: vec![],
        }
    }

    /// Logs an access that an IOMMU refused.
    fn refused(&self, iova: u64, reason: DmaFaultReason, write: bool, id: u8) {
        // Clients of the port: payload of one direction, then descriptors or write-backs of H2C and of C2H.
        let (purpose, direction) = match (id, write) {
            (0, false) => (Purpose::Payload, Direction::H2C),
            (0, true) => (Purpose::Payload, Direction::C2H),
            (1, false) => (Purpose::Fetch, Direction::H2C),
            (1, true) => (Purpose::WriteBack, Direction::H2C),
            (_, false) => (Purpose::Fetch, Direction::C2H),
            (_, true) => (Purpose::WriteBack, Direction::C2H),
        };
        let channel = ChannelId { direction, index: 0 };
        self.shared.log.dma_fault(DmaFault { iova, write, purpose, reason, channel });
    }

    /// Reads the next beat of the oldest read.
    fn fetch(&mut self) -> Option<([u8; BEAT as usize], u8)> {
        let read = self.reads.front_mut().filter(|read| read.due <= self.cycle)?;
        let mut data = [0xff; BEAT as usize];
        if read.broken.is_none() {
            let from = read.address / BEAT * BEAT;
            if let Err((iova, reason)) = self.cursor.read(&self.shared.guest, from, &mut data) {
                read.broken = Some(Metric::Range);
                data.fill(0xff);
                let id = read.id;
                self.refused(iova, reason, false, id);
            }
        }
        let broken = self.reads.front().is_some_and(|read| read.broken.is_some());
        Some((data, if broken { SLVERR } else { OKAY }))
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
            write.broken =
                write.broken.or(Some(if begins { Metric::FirstBytes } else { Metric::LastBytes }));
        } else {
            if begins {
                write.address = write.address / BEAT * BEAT + u64::from(first);
            }
            write.data.extend_from_slice(&port.wdata[first as usize..end as usize]);
        }
        if (write.left == 0) != (port.wlast != 0) {
            write.broken = write.broken.or(Some(Metric::WriteIncomplete));
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
            && let Err((iova, reason)) =
                self.cursor.write(&self.shared.guest, write.address, &write.data)
        {
            self.refused(iova, reason, true, write.id);
            write.broken = Some(Metric::Range);
        }
        match write.broken {
            Some(metric) => self.metrics.add(metric, 1),
            None => self.metrics.add(Metric::Written, write.data.len().div_ceil(4) as u64),
        }
        let resp = if write.broken.is_some() { SLVERR } else { OKAY };
        let due = self.cycle + self.rng.random_range(LATENCY) / 2;
        let after = self.responses.back().map_or(0, |(_, _, due)| *due);
        self.responses.push_back((write.id, resp, due.max(after)));
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
        let reasons = [Metric::WChannel, Metric::RReady, Metric::BReady];
        if let Some((_, reason)) = self.waits.iter().zip(reasons).find(|(wait, _)| **wait > TIMEOUT) {
            self.kill(reason);
        }
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
        let response = self.responses.front().filter(|(_, _, due)| *due <= self.cycle);
        port.bvalid = u8::from(response.is_some());
        if let Some(&(id, resp, _)) = response {
            (port.bid, port.bresp) = (id, resp);
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
                (OKAY, ..) => self.metrics.add(Metric::Read, BEAT / 4),
                (_, 0, Some(metric)) => self.metrics.add(metric, 1),
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
            let read = self.accept(port.arid, port.araddr, port.arlen, port.arsize, port.arburst);
            self.reads.push_back(read);
        }
        if port.awvalid & port.awready != 0 {
            let write = self.accept(port.awid, port.awaddr, port.awlen, port.awsize, port.awburst);
            self.writes.push_back(write);
        }
        self.watch(port);
        if (port.arvalid | port.rvalid | port.awvalid | port.wvalid | port.bvalid) != 0 {
            self.active = self.cycle;
        }
    }
}
