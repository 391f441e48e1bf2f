//! Host memory behind the engine's port. Like the F2 shell, the bridge answers SLVERR while bus mastering is off, and to a read that
//! the host refuses or whose completion is bad. A write that the host's IOMMU refuses is lost and gets OKAY, since PCIe writes are posted.

use crate::channel::Shared;
use crate::guest::Cursor;
use crate::simulated_engine::Clients;
use std::collections::VecDeque;
use std::sync::Arc;
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
    clients: Clients,
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
            clients: Clients::new(shared),
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

    fn read(&mut self, id: u8, address: u64) -> ([u8; BEAT as usize], u8) {
        let mut data = [0xff; BEAT as usize];
        if !self.shared.link.bus_master() {
            return (data, SLVERR);
        }
        match self.cursor.read_beat(&self.shared.guest, address, &mut data) {
            Ok(()) if self.clients.is_without_magic(id) => ([0; BEAT as usize], OKAY),
            Ok(()) => (data, OKAY),
            Err((iova, reason)) => {
                self.clients.refused(iova, reason, false, id);
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
            self.clients.refused(iova, reason, true, write.id);
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
            let fails = self.clients.is_hit(port.arid, false);
            self.reads.push_back(Burst::new(port.arid, port.araddr, port.arlen, fails));
        }
        if port.awvalid != 0 {
            let lost = self.clients.is_hit(port.awid, true);
            self.writes.push_back(Burst::new(port.awid, port.awaddr, port.awlen, lost));
        }
        if (port.arvalid | port.rvalid | port.awvalid | port.wvalid | port.bvalid) != 0 {
            self.active = self.cycle;
        }
    }
}
