//! The ports of `msm_design`.

/// The inputs for the next clock edge, and the outputs sampled just before the previous edge. Named as in the RTL, without `s_axi_` and
/// with `lite_` for `s_axil_`.
#[repr(C)]
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Ports {
    pub awaddr: u64,
    pub araddr: u64,
    pub wstrb: u64,
    pub lite_awaddr: u32,
    pub lite_wdata: u32,
    pub lite_araddr: u32,
    pub rst_n: u8,
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
    pub lite_awvalid: u8,
    pub lite_wvalid: u8,
    pub lite_wstrb: u8,
    pub lite_bready: u8,
    pub lite_arvalid: u8,
    pub lite_rready: u8,
    pub wdata: [u8; 64],

    pub rdata: [u8; 64],
    pub lite_rdata: u32,
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
    pub wr_full: u8,
    pub irq: u8,
    pub lite_awready: u8,
    pub lite_wready: u8,
    pub lite_bvalid: u8,
    pub lite_bresp: u8,
    pub lite_arready: u8,
    pub lite_rvalid: u8,
    pub lite_rresp: u8,
}

impl Default for Ports {
    /// No channel valid, every response channel ready, bursts of whole beats, not in reset.
    fn default() -> Self {
        // SAFETY: all fields are integers and arrays of integers, for which all-zero bytes are valid.
        let zero: Self = unsafe { std::mem::zeroed() };
        Self {
            rst_n: 1,
            awsize: 6,
            awburst: 1,
            arsize: 6,
            arburst: 1,
            wstrb: u64::MAX,
            lite_wstrb: 0xf,
            bready: 1,
            rready: 1,
            lite_bready: 1,
            lite_rready: 1,
            ..zero
        }
    }
}
