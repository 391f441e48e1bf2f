//! Host memory behind the engine's port. Like the F2 shell, the bridge answers SLVERR while bus mastering is off, and to a read that
//! the host refuses or whose completion is bad. A write that the host's IOMMU refuses is lost and gets OKAY, since PCIe writes are posted.

use crate::channel::Shared;
use crate::faults::InjectionPoint;
use crate::guest::Cursor;
use crate::log::{ChannelId, DmaFault, DmaFaultReason, Purpose};
use std::collections::VecDeque;
use std::sync::Arc;
use xdma_card_file::Channels;
use xdma_regs::Direction;
use xdma_rtl_dma::{Axi, Bus};

const BEAT: u64 = 64;
const OKAY: u8 = 0;
const SLVERR: u8 = 2;

/// The rest of a burst.
struct Burst {
    id: u8,
    address: u64,
    left: u32,
    /// Whether a beat was refused, and the rest with it, or an injected fault refuses the whole burst.
    refused: bool,
}

impl Burst {
    fn new(id: u8, address: u64, len: u8, refused: bool) -> Self {
        Self { id, address: address / BEAT * BEAT, left: u32::from(len) + 1, refused }
    }

    fn advance(&mut self) {
        self.address += BEAT;
        self.left -= 1;
    }
}

/// The host's side of the engine.
pub(crate) struct HostBus {
    shared: Arc<Shared>,
    cursor: Cursor,
    reads: VecDeque<Burst>,
    writes: VecDeque<Burst>,
    /// The response to the oldest write so far.
    resp: u8,
    responses: VecDeque<(u8, u8)>,
    /// The beat that is offered, so that it is read only once.
    offered: Option<([u8; BEAT as usize], u8)>,
    cycle: u64,
    active: u64,
}

impl HostBus {
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            cursor: Cursor::default(),
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            resp: OKAY,
            responses: VecDeque::new(),
            offered: None,
            cycle: 0,
            active: 0,
        }
    }

    /// Returns the clock of the last transfer.
    pub fn last_activity(&self) -> u64 {
        self.active
    }

    /// Counts an access to a register as activity.
    pub fn touch(&mut self) {
        self.active = self.cycle;
    }

    /// Returns what a client of the port transfers, and for which channel. Clients are the payload of one direction, then the
    /// descriptors or write-backs of all channels, H2C first.
    fn client(&self, id: u8, write: bool) -> (Purpose, ChannelId) {
        let Channels { h2c, c2h, .. } = self.shared.options.card.channels;
        let (payload, direction) = if write { (c2h, Direction::C2H) } else { (h2c, Direction::H2C) };
        let purpose = if write { Purpose::WriteBack } else { Purpose::Fetch };
        let id = usize::from(id);
        match id.checked_sub(payload) {
            None => (Purpose::Payload, ChannelId { direction, index: id }),
            Some(index) if index < h2c => (purpose, ChannelId { direction: Direction::H2C, index }),
            Some(number) => (purpose, ChannelId { direction: Direction::C2H, index: number - h2c }),
        }
    }

    /// Returns whether an injected fault hits a burst of a client: a read fails, and a write is lost.
    fn is_taken(&self, id: u8, write: bool) -> bool {
        let (purpose, channel) = self.client(id, write);
        let point = match purpose {
            Purpose::Fetch => InjectionPoint::Fetch,
            Purpose::WriteBack => InjectionPoint::WriteBack,
            _ if write => InjectionPoint::HostWrite,
            _ => InjectionPoint::HostRead,
        };
        self.shared.faults.fault_at(point, Some(channel)).is_some()
    }

    /// Returns whether an injected fault removes the magic numbers of a beat of descriptors.
    fn is_without_magic(&self, id: u8) -> bool {
        let (purpose, channel) = self.client(id, false);
        purpose == Purpose::Fetch
            && self.shared.faults.fault_at(InjectionPoint::Descriptor, Some(channel)).is_some()
    }

    fn refused(&self, iova: u64, reason: DmaFaultReason, write: bool, id: u8) {
        let (purpose, channel) = self.client(id, write);
        self.shared.log.dma_fault(DmaFault { iova, write, purpose, reason, channel });
    }

    fn read(&mut self, id: u8, address: u64) -> ([u8; BEAT as usize], u8) {
        let mut data = [0xff; BEAT as usize];
        if !self.shared.link.bus_master() {
            return (data, SLVERR);
        }
        match self.cursor.read_beat(&self.shared.guest, address, &mut data) {
            Ok(()) if self.is_without_magic(id) => ([0; BEAT as usize], OKAY),
            Ok(()) => (data, OKAY),
            Err((iova, reason)) => {
                self.refused(iova, reason, false, id);
                (data, SLVERR)
            }
        }
    }

    fn write(&mut self, port: &Axi) {
        let mut write = self.writes.pop_front().expect("the engine sends addresses no later than their data");
        let first = port.wstrb.trailing_zeros() as usize;
        let end = (64 - port.wstrb.leading_zeros()) as usize;
        assert_eq!(port.wstrb.count_ones() as usize, end - first, "strobes have no holes");
        let (bytes, at) = (&port.wdata[first..end], write.address + first as u64);
        if !self.shared.link.bus_master() {
            self.resp = SLVERR;
        } else if !write.refused
            && let Err((iova, reason)) = self.cursor.write(&self.shared.guest, at, bytes)
        {
            self.refused(iova, reason, true, write.id);
            write.refused = true;
        }
        if port.wlast != 0 {
            self.responses.push_back((write.id, self.resp));
            self.resp = OKAY;
        } else {
            write.advance();
            self.writes.push_front(write);
        }
    }
}

impl Bus for HostBus {
    fn drive(&mut self, port: &mut Axi) {
        (port.awready, port.wready, port.arready) = (1, u8::from(!self.writes.is_empty()), 1);
        if self.offered.is_none()
            && let Some(&Burst { id, address, refused, .. }) = self.reads.front()
        {
            let beat = if refused { ([0xff; BEAT as usize], SLVERR) } else { self.read(id, address) };
            self.offered = Some(beat);
        }
        port.rvalid = u8::from(self.offered.is_some());
        if let (Some((data, resp)), Some(burst)) = (&self.offered, self.reads.front()) {
            port.rdata = *data;
            (port.rid, port.rresp, port.rlast) = (burst.id, *resp, u8::from(burst.left == 1));
        }
        port.bvalid = u8::from(!self.responses.is_empty());
        if let Some(&(id, resp)) = self.responses.front() {
            (port.bid, port.bresp) = (id, resp);
        }
    }

    fn take(&mut self, port: &Axi) {
        self.cycle += 1;
        if port.rvalid & port.rready != 0 {
            self.offered = None;
            let read = self.reads.front_mut().expect("a beat of the oldest read was offered");
            read.refused = port.rresp != OKAY;
            read.advance();
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
        if port.arvalid != 0 {
            let fails = self.is_taken(port.arid, false);
            self.reads.push_back(Burst::new(port.arid, port.araddr, port.arlen, fails));
        }
        if port.awvalid != 0 {
            let lost = self.is_taken(port.awid, true);
            self.writes.push_back(Burst::new(port.awid, port.awaddr, port.awlen, lost));
        }
        if (port.arvalid | port.rvalid | port.awvalid | port.wvalid | port.bvalid) != 0 {
            self.active = self.cycle;
        }
    }
}
