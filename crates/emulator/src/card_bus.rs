//! The custom logic behind the card's side of a simulated engine.

use super::channel::Shared;
use super::faults::{InjectionPoint, Kind, Until};
use super::log::{ChannelId, add};
use super::logic::{AxiResponse, Burst, PCIS_ID};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use vm_memory::VolatileSlice;
use xdma_regs::{Direction, MAX_CHANNELS};
use xdma_rtl_dma::{Axi, Bus};

const BEAT: u64 = 64;
const OKAY: u8 = 0;
const SLVERR: u8 = 2;
const DECERR: u8 = 3;
/// The masters: the channels of the engine, and BAR4.
const MASTERS: usize = MAX_CHANNELS + 1;

/// Returns the number of the master with an ID.
fn master(id: u8) -> usize {
    usize::from(id).min(MAX_CHANNELS)
}

/// Returns the ID of a master.
fn id(master: usize) -> usize {
    if master == MAX_CHANNELS { PCIS_ID } else { master }
}

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
    /// Whether the faults that are due at this access were injected.
    begun: bool,
    /// An injected fault delays it.
    hang: Option<Until>,
    /// When it began to wait for the logic.
    since: Option<Instant>,
}

impl Access {
    fn new(address: u64, burst: u8, data: Vec<u8>) -> Self {
        let burst = if burst == 0 { Burst::Fixed } else { Burst::Increment };
        Self {
            address,
            burst,
            data,
            done: 0,
            complete: false,
            accepted: false,
            resp: None,
            sent: 0,
            begun: false,
            hang: None,
            since: None,
        }
    }

    fn here(&self) -> u64 {
        match self.burst {
            Burst::Increment => self.address + self.done as u64,
            Burst::Fixed => self.address,
        }
    }

    /// Injects the faults that are due at a burst of a channel.
    fn inject(&mut self, shared: &Shared, channel: usize, write: bool) {
        let direction = if write { Direction::H2C } else { Direction::C2H };
        let channel = Some(ChannelId { direction, index: channel });
        if write && shared.faults.fault_at(InjectionPoint::BurstWrite, channel).is_some() {
            self.resp = Some(OKAY);
        }
        match shared.faults.fault_at(InjectionPoint::Burst, channel) {
            Some(Kind::AxiSlaveError) => self.resp = Some(SLVERR),
            Some(Kind::AxiDecodeError) => self.resp = Some(DECERR),
            Some(Kind::AxiHang(duration)) => self.hang = Some(duration.until()),
            _ => {}
        }
    }

    /// Returns whether an injected fault or the shell currently determines the response to an access of a channel, not the logic.
    fn is_intercepted(&mut self, shared: &Shared, channel: usize, write: bool) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            self.inject(shared, channel, write);
        }
        self.hang = self.hang.filter(|until| !until.is_over());
        if shared.axi_timeout.expires(self.since, Instant::now) {
            add(&shared.log.count.axi_timeouts, 1);
            if self.accepted {
                shared.logic.discard_responses(channel);
            }
            self.data.fill(0xff);
            self.resp = Some(OKAY);
        }
        self.hang.is_some() || self.resp.is_some()
    }

    /// Returns the time at which the access continues without a notification.
    fn wake(&self, shared: &Shared) -> Option<Instant> {
        match self.hang {
            Some(until) => until.end(),
            None => shared.axi_timeout.deadline(self.since?),
        }
    }

    /// Continues until there is a response, or the logic waits.
    fn advance(&mut self, shared: &Shared, channel: usize, write: bool) {
        if channel < MAX_CHANNELS && self.is_intercepted(shared, channel, write) {
            return;
        }
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
                AxiResponse::Okay(_) if self.accepted => self.resp = Some(OKAY),
                AxiResponse::Okay(bytes) => {
                    self.done += bytes;
                    self.resp = (self.done >= self.data.len()).then_some(OKAY);
                }
                AxiResponse::Accepted => self.accepted = true,
                AxiResponse::Wait => {
                    self.since.get_or_insert_with(Instant::now);
                    return;
                }
                AxiResponse::SlaveError => self.resp = Some(SLVERR),
                AxiResponse::DecodeError => self.resp = Some(DECERR),
            }
        }
    }
}

/// The card's side of the engine.
pub(crate) struct CardBus {
    shared: Arc<Shared>,
    /// The accesses of each master, oldest first, and whether the oldest waits for the logic.
    reads: [VecDeque<Access>; MASTERS],
    writes: [VecDeque<Access>; MASTERS],
    waits: [[bool; MASTERS]; 2],
    /// The IDs of the writes whose data has not arrived completely.
    order: VecDeque<u8>,
    responses: VecDeque<(u8, u8)>,
    /// The ID whose read is being sent.
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

    /// Returns the earliest time at which a waiting access continues without a notification.
    pub fn wake(&self) -> Option<Instant> {
        let oldest = self.reads.iter().chain(&self.writes).filter_map(VecDeque::front);
        oldest.filter(|access| access.resp.is_none()).filter_map(|access| access.wake(&self.shared)).min()
    }

    /// Forgets all accesses, as the logic is reset too.
    pub fn reset(&mut self) {
        *self = Self { cycle: self.cycle, active: self.cycle, ..Self::new(&self.shared) };
    }

    fn advance(&mut self) {
        for master in 0..MASTERS {
            if let Some(read) = self.reads[master].front_mut().filter(|read| read.resp.is_none())
                && !self.waits[0][master]
            {
                read.advance(&self.shared, id(master), false);
                self.waits[0][master] = read.resp.is_none();
            }
            if let Some(write) = self.writes[master].front_mut().filter(|write| write.complete)
                && !self.waits[1][master]
            {
                write.advance(&self.shared, id(master), true);
                self.waits[1][master] = write.resp.is_none();
                if let Some(resp) = write.resp {
                    self.writes[master].pop_front();
                    self.responses.push_back((id(master) as u8, resp));
                }
            }
        }
    }

    fn write(&mut self, port: &Axi) {
        let id = *self.order.front().expect("the engine sends addresses no later than their data");
        let open = self.writes[master(id)].iter_mut().find(|write| !write.complete);
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
            let answered =
                |master: &usize| self.reads[*master].front().is_some_and(|read| read.resp.is_some());
            self.sending = (0..MASTERS).find(answered).map(|master| id(master) as u8);
        }
        port.rvalid = u8::from(self.sending.is_some());
        if let Some(id) = self.sending {
            let read = self.reads[master(id)].front().expect("an answered read is being sent");
            let at = read.sent * BEAT as usize;
            port.rdata.copy_from_slice(&read.data[at..at + BEAT as usize]);
            let last = at + BEAT as usize == read.data.len();
            (port.rid, port.rresp, port.rlast) = (id, read.resp.unwrap_or(0), u8::from(last));
        }
        port.bvalid = u8::from(!self.responses.is_empty());
        if let Some(&(id, resp)) = self.responses.front() {
            (port.bid, port.bresp) = (id, resp);
        }
    }

    fn take(&mut self, port: &Axi) {
        self.cycle += 1;
        if port.rvalid & port.rready != 0 {
            let queue = &mut self.reads[master(port.rid)];
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
            self.reads[master(port.arid)].push_back(access);
        }
        if port.awvalid != 0 {
            self.order.push_back(port.awid);
            self.writes[master(port.awid)].push_back(Access::new(port.awaddr, port.awburst, vec![]));
        }
        if (port.arvalid | port.rvalid | port.awvalid | port.wvalid | port.bvalid) != 0 {
            self.active = self.cycle;
        }
    }
}
