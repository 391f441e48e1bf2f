//! Memory behind an AXI4 port.

use crate::{Axi, Bus};
use std::collections::{HashMap, VecDeque};

const PAGE: u64 = 4096;
const BEAT: u64 = 64;

/// Sparse memory that reads as zero where nothing was written.
#[derive(Debug, Default)]
struct Pages(HashMap<u64, Box<[u8; PAGE as usize]>>);

impl Pages {
    fn beat(&mut self, address: u64) -> &mut [u8] {
        let page = self.0.entry(address / PAGE).or_insert_with(|| Box::new([0; PAGE as usize]));
        let at = (address % PAGE / BEAT * BEAT) as usize;
        &mut page[at..at + BEAT as usize]
    }
}

/// The cycles of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// The number of events.
    pub count: u64,
}

impl Span {
    fn add(&mut self, cycle: u64) {
        if self.count == 0 {
            self.first = cycle;
        }
        self.last = cycle;
        self.count += 1;
    }

    /// Returns the cycles from the first to the last event, including both.
    pub fn cycles(&self) -> u64 {
        if self.count == 0 { 0 } else { self.last - self.first + 1 }
    }
}

/// An address that was accepted.
#[derive(Debug)]
struct Request {
    id: u8,
    address: u64,
    left: u32,
    fixed: bool,
    /// The cycle from which the response may be sent.
    due: u64,
}

impl Request {
    fn advance(&mut self) {
        if !self.fixed {
            self.address = self.address / BEAT * BEAT + BEAT;
        }
        self.left -= 1;
    }
}

/// Memory with a fixed latency and a limited number of requests under way. It is always ready for data and responds in order.
#[derive(Debug)]
pub struct Memory {
    pages: Pages,
    latency: u64,
    reads_under_way: usize,
    reads: VecDeque<Request>,
    writes: VecDeque<Request>,
    responses: VecDeque<(u8, u64)>,
    cycle: u64,
    /// Payload reads: addresses accepted from a client below [`Memory::data_ids`].
    pub addresses: Span,
    /// Beats written by a client below [`Memory::data_ids`].
    pub data: Span,
    /// Beats written by the other clients: write-backs.
    pub write_backs: Span,
    /// The IDs below this one carry payload.
    pub data_ids: u8,
}

impl Memory {
    /// Creates memory that responds `latency` cycles after a request, and accepts at most `reads` reads before it has answered them.
    pub fn new(latency: u64, reads: usize, data_ids: u8) -> Self {
        Self {
            pages: Pages::default(),
            latency,
            reads_under_way: reads,
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            responses: VecDeque::new(),
            cycle: 0,
            addresses: Span::default(),
            data: Span::default(),
            write_backs: Span::default(),
            data_ids,
        }
    }

    /// Writes bytes.
    pub fn poke(&mut self, address: u64, bytes: &[u8]) {
        for (at, byte) in (address..).zip(bytes) {
            self.pages.beat(at)[(at % BEAT) as usize] = *byte;
        }
    }

    /// Reads bytes.
    pub fn peek(&mut self, address: u64, len: usize) -> Vec<u8> {
        (address..address + len as u64).map(|at| self.pages.beat(at)[(at % BEAT) as usize]).collect()
    }

    fn write(&mut self, port: &Axi) {
        let write = self.writes.front_mut().expect("the engine sends addresses no later than their data");
        let span = if write.id < self.data_ids { &mut self.data } else { &mut self.write_backs };
        span.add(self.cycle);
        let beat = self.pages.beat(write.address);
        for (lane, byte) in port.wdata.iter().enumerate().filter(|(lane, _)| port.wstrb >> lane & 1 != 0) {
            beat[lane] = *byte;
        }
        write.advance();
        assert_eq!(write.left == 0, port.wlast != 0, "WLAST");
        if write.left == 0 {
            self.responses.push_back((write.id, self.cycle + self.latency));
            self.writes.pop_front();
        }
    }
}

impl Bus for Memory {
    fn drive(&mut self, port: &mut Axi) {
        port.awready = 1;
        port.wready = 1;
        port.arready = u8::from(self.reads.len() < self.reads_under_way);
        port.rvalid = 0;
        if let Some(read) = self.reads.front().filter(|read| read.due <= self.cycle) {
            (port.rvalid, port.rid, port.rresp, port.rlast) = (1, read.id, 0, u8::from(read.left == 1));
            port.rdata.copy_from_slice(self.pages.beat(read.address));
        }
        port.bvalid = 0;
        if let Some((id, _)) = self.responses.front().filter(|(_, due)| *due <= self.cycle) {
            (port.bvalid, port.bid, port.bresp) = (1, *id, 0);
        }
    }

    fn take(&mut self, port: &Axi) {
        if port.arvalid & port.arready != 0 {
            if port.arid < self.data_ids {
                self.addresses.add(self.cycle);
            }
            self.reads.push_back(request(
                port.arid,
                port.araddr,
                port.arlen,
                port.arburst,
                self.cycle + self.latency,
            ));
        }
        if port.rvalid & port.rready != 0 {
            let read = self.reads.front_mut().expect("a beat of the oldest read was offered");
            read.advance();
            if read.left == 0 {
                self.reads.pop_front();
            }
        }
        if port.bvalid & port.bready != 0 {
            self.responses.pop_front();
        }
        if port.awvalid & port.awready != 0 {
            self.writes.push_back(request(port.awid, port.awaddr, port.awlen, port.awburst, 0));
        }
        if port.wvalid & port.wready != 0 {
            self.write(port);
        }
        self.cycle += 1;
    }
}

fn request(id: u8, address: u64, len: u8, burst: u8, due: u64) -> Request {
    Request { id, address, left: u32::from(len) + 1, fixed: burst == 0, due }
}
