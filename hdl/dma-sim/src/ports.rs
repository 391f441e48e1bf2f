//! The ports of `dma_engine` and of the F2 image.

/// An AXI4 port that the engine masters. The memory behind it sets `awready`, `wready`, `arready` and the signals of the channels B
/// and R; the engine sets the others.
#[repr(C)]
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Axi {
    pub awaddr: u64,
    pub araddr: u64,
    pub wstrb: u64,
    pub wdata: [u8; 64],
    pub rdata: [u8; 64],
    pub awready: u8,
    pub wready: u8,
    pub bvalid: u8,
    pub bid: u8,
    pub bresp: u8,
    pub arready: u8,
    pub rvalid: u8,
    pub rid: u8,
    pub rresp: u8,
    pub rlast: u8,
    pub awvalid: u8,
    pub awid: u8,
    pub awlen: u8,
    pub awsize: u8,
    pub awburst: u8,
    pub wvalid: u8,
    pub wlast: u8,
    pub bready: u8,
    pub arvalid: u8,
    pub arid: u8,
    pub arlen: u8,
    pub arsize: u8,
    pub arburst: u8,
    pub rready: u8,
}

impl Default for Axi {
    fn default() -> Self {
        // SAFETY: zero is a valid value of all fields, which are integers and arrays of integers.
        unsafe { std::mem::zeroed() }
    }
}

/// What is behind an AXI4 port that the design masters.
pub trait Bus {
    /// Sets the signals for the next edge.
    fn drive(&mut self, port: &mut Axi);
    /// Takes what the edge transferred.
    fn take(&mut self, port: &Axi);
}

/// An AXI4-Lite port. The master makes one access at a time.
#[repr(C)]
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Lite {
    pub awaddr: u32,
    pub wdata: u32,
    pub araddr: u32,
    pub rdata: u32,
    pub awvalid: u8,
    pub awready: u8,
    pub wvalid: u8,
    pub wstrb: u8,
    pub wready: u8,
    pub bvalid: u8,
    pub bready: u8,
    pub arvalid: u8,
    pub arready: u8,
    pub rvalid: u8,
    pub rready: u8,
}

impl Lite {
    /// Begins a read. Call [`Lite::end_read`] after each clock until it returns the value.
    pub fn begin_read(&mut self, address: u32) {
        (self.arvalid, self.araddr, self.rready) = (1, address, 1);
    }

    /// Returns the value, if the last clock returned it.
    pub fn end_read(&mut self) -> Option<u32> {
        self.arvalid &= !self.arready;
        (self.rvalid != 0).then_some(self.rdata)
    }

    /// Begins a write of the bytes that `strobes` selects, bit 0 the lowest one. Call [`Lite::end_write`] after each clock until it
    /// returns true.
    pub fn begin_write(&mut self, address: u32, value: u32, strobes: u8) {
        (self.awvalid, self.awaddr) = (1, address);
        (self.wvalid, self.wdata, self.wstrb, self.bready) = (1, value, strobes, 1);
    }

    /// Returns whether the last clock completed the write.
    pub fn end_write(&mut self) -> bool {
        self.awvalid &= !self.awready;
        self.wvalid &= !self.wready;
        self.bvalid != 0
    }
}

/// The inputs for the next clock edge, and the outputs sampled just before the previous edge. Named as in the RTL, with `lite` for
/// `s_axil`.
#[cfg(feature = "engine")]
#[repr(C)]
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Ports {
    pub host: Axi,
    pub card: Axi,
    pub lite: Lite,
    pub user_irq: u16,
    pub irq_ack: u16,
    pub irq_req: u16,
    pub rst_n: u8,
    pub flr: u8,
    pub max_payload: u8,
    pub max_read_request: u8,
    pub flr_done: u8,
    pub card_dead: u8,
}

/// The ports of the F2 image, in the same way. `design` and `user` are used without the MSM design; IDs of `design` below 4 are
/// channels of the engine, and the others are those of `pcis`.
#[cfg(feature = "f2")]
#[repr(C)]
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct F2Ports {
    pub pcim: Axi,
    pub pcis: Axi,
    pub design: Axi,
    pub ocl: Lite,
    pub user: Lite,
    pub irq_ack: u16,
    pub irq_req: u16,
    pub design_irq: u16,
    pub rst_n: u8,
    pub flr: u8,
    pub max_payload: u8,
    pub max_read_request: u8,
    pub flr_done: u8,
    pub card_dead: u8,
    pub busy: u8,
}
