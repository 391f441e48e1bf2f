//! The custom logic behind the engine's port.

use crate::channel::Shared;
use crate::logic::{AxiResponse, Burst};
use std::collections::VecDeque;
use std::sync::Arc;
use vm_memory::VolatileSlice;
use xdma_regs::MAX_CHANNELS;
use xdma_rtl_dma::{Axi, Bus};

const BEAT: u64 = 64;

/// A burst to the logic.
struct Access {
    address: u64,
    burst: Burst,
    /// Write: the strobed bytes received so far. Read: the bytes of all beats.
    data: Vec<u8>,
    /// Bytes that the logic has accepted or returned.
    done: usize,
    /// Write: all beats have been received.
    complete: bool,
    /// The logic accepted the write, and its response is outstanding.
    accepted: bool,
    /// The response, once there is one.
    resp: Option<u8>,
    /// Read: beats sent.
    sent: usize,
}

impl Access {
    fn new(address: u64, burst: u8, data: Vec<u8>) -> Self {
        let burst = if burst == 0 { Burst::Fixed } else { Burst::Increment };
        Self { address, burst, data, done: 0, complete: false, accepted: false, resp: None, sent: 0 }
    }

    fn here(&self) -> u64 {
        match self.burst {
            Burst::Increment => self.address + self.done as u64,
            Burst::Fixed => self.address,
        }
    }

    /// Continues until there is a response, or the logic waits.
    fn advance(&mut self, shared: &Shared, channel: usize, write: bool) {
        while self.resp.is_none() {
            let answer = match self.accepted {
                true => shared.logic.response(channel),
                false => {
                    let (at, burst) = (self.here(), self.burst);
                    let rest = VolatileSlice::from(&mut self.data[self.done..]);
                    match write {
                        true => shared.logic.write(channel, at, burst, &rest),
                        false => shared.logic.read(channel, at, burst, &rest),
                    }
                }
            };
            match answer {
                AxiResponse::Okay(_) if self.accepted => self.resp = Some(0),
                AxiResponse::Okay(bytes) => {
                    self.done += bytes;
                    self.resp = (self.done >= self.data.len()).then_some(0);
                }
                AxiResponse::Accepted => self.accepted = true,
                AxiResponse::Wait => return,
                AxiResponse::SlaveError => self.resp = Some(2),
                AxiResponse::DecodeError => self.resp = Some(3),
            }
        }
    }
}

/// The card's side of the engine.
pub(crate) struct CardBus {
    shared: Arc<Shared>,
    /// The accesses of each channel, oldest first, and whether the oldest waits for the logic.
    reads: [VecDeque<Access>; MAX_CHANNELS],
    writes: [VecDeque<Access>; MAX_CHANNELS],
    waits: [[bool; MAX_CHANNELS]; 2],
    /// The channels of the writes whose data has not arrived completely.
    order: VecDeque<u8>,
    responses: VecDeque<(u8, u8)>,
    /// The channel whose read is being sent.
    sending: Option<u8>,
    cycle: u64,
    active: u64,
}

impl CardBus {
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            reads: Default::default(),
            writes: Default::default(),
            waits: Default::default(),
            order: VecDeque::new(),
            responses: VecDeque::new(),
            sending: None,
            cycle: 0,
            active: 0,
        }
    }

    /// Returns the clock of the last transfer.
    pub fn last_activity(&self) -> u64 {
        self.active
    }

    /// Asks the logic again about the accesses that wait for it.
    pub fn retry(&mut self) {
        self.waits = Default::default();
    }

    /// Forgets all accesses, as the logic is reset too.
    pub fn reset(&mut self) {
        *self = Self { cycle: self.cycle, active: self.cycle, ..Self::new(&self.shared) };
    }

    fn advance(&mut self) {
        for channel in 0..MAX_CHANNELS {
            if let Some(read) = self.reads[channel].front_mut().filter(|read| read.resp.is_none())
                && !self.waits[0][channel]
            {
                read.advance(&self.shared, channel, false);
                self.waits[0][channel] = read.resp.is_none();
            }
            if let Some(write) = self.writes[channel].front_mut().filter(|write| write.complete)
                && !self.waits[1][channel]
            {
                write.advance(&self.shared, channel, true);
                self.waits[1][channel] = write.resp.is_none();
                if let Some(resp) = write.resp {
                    self.writes[channel].pop_front();
                    self.responses.push_back((channel as u8, resp));
                }
            }
        }
    }

    fn write(&mut self, port: &Axi) {
        let channel = *self.order.front().expect("the engine sends addresses no later than their data");
        let open = self.writes[usize::from(channel)].iter_mut().find(|write| !write.complete);
        let write = open.expect("the write is open");
        let first = port.wstrb.trailing_zeros() as usize;
        let end = (64 - port.wstrb.leading_zeros()) as usize;
        if write.data.is_empty() {
            write.address = write.address / BEAT * BEAT + first as u64;
        }
        write.data.extend_from_slice(&port.wdata[first..end]);
        if port.wlast != 0 {
            write.complete = true;
            self.order.pop_front();
        }
    }
}

impl Bus for CardBus {
    fn drive(&mut self, port: &mut Axi) {
        self.advance();
        (port.awready, port.wready, port.arready) = (1, u8::from(!self.order.is_empty()), 1);
        if self.sending.is_none() {
            let answered = |channel: &u8| {
                self.reads[usize::from(*channel)].front().is_some_and(|read| read.resp.is_some())
            };
            self.sending = (0..MAX_CHANNELS as u8).find(answered);
        }
        port.rvalid = u8::from(self.sending.is_some());
        if let Some(channel) = self.sending {
            let read = self.reads[usize::from(channel)].front().expect("an answered read is being sent");
            let at = read.sent * BEAT as usize;
            port.rdata.copy_from_slice(&read.data[at..at + BEAT as usize]);
            let last = at + BEAT as usize == read.data.len();
            (port.rid, port.rresp, port.rlast) = (channel, read.resp.unwrap_or(0), u8::from(last));
        }
        port.bvalid = u8::from(!self.responses.is_empty());
        if let Some(&(id, resp)) = self.responses.front() {
            (port.bid, port.bresp) = (id, resp);
        }
    }

    fn take(&mut self, port: &Axi) {
        self.cycle += 1;
        if port.rvalid & port.rready != 0 {
            let queue = &mut self.reads[usize::from(port.rid)];
            queue.front_mut().expect("an answered read is being sent").sent += 1;
            if port.rlast != 0 {
                queue.pop_front();
                self.sending = None;
            }
        }
        if port.bvalid & port.bready != 0 {
            self.responses.pop_front();
        }
        if port.wvalid & port.wready != 0 {
            self.write(port);
        }
        if port.arvalid != 0 {
            let data = vec![0; (usize::from(port.arlen) + 1) * BEAT as usize];
            let access = Access::new(port.araddr / BEAT * BEAT, port.arburst, data);
            self.reads[usize::from(port.arid)].push_back(access);
        }
        if port.awvalid != 0 {
            self.order.push_back(port.awid);
            self.writes[usize::from(port.awid)].push_back(Access::new(port.awaddr, port.awburst, vec![]));
        }
        if (port.arvalid | port.rvalid | port.awvalid | port.wvalid | port.bvalid) != 0 {
            self.active = self.cycle;
        }
    }
}
