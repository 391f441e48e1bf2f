//! The registers of the custom logic behind the image's AXI4-Lite port. As in the MSM design, writes that do not cover a word have no
//! effect.

use crate::channel::Shared;
use xdma_rtl_dma::Lite;

/// The BAR with these registers.
const BAR: usize = 0;

#[derive(Default)]
pub(super) struct UserRegisters {
    /// Whether they no longer accept accesses.
    hangs: bool,
    /// The parts of a write that have been accepted.
    address: Option<u32>,
    /// The data and its strobes.
    data: Option<(u32, u8)>,
}

impl UserRegisters {
    /// Stops answering until another image is loaded.
    pub fn hang(&mut self) {
        self.hangs = true;
    }

    /// Forgets a write that has been accepted in part.
    pub fn reset(&mut self) {
        (self.address, self.data) = (None, None);
    }

    pub fn drive(&self, port: &mut Lite) {
        (port.awready, port.wready) = (u8::from(!self.hangs), u8::from(!self.hangs));
        port.arready = u8::from(!self.hangs && port.rvalid == 0);
    }

    pub fn take(&mut self, port: &mut Lite, shared: &Shared) {
        if port.bvalid & port.bready != 0 {
            port.bvalid = 0;
        }
        if port.rvalid & port.rready != 0 {
            port.rvalid = 0;
        }
        if port.awvalid & port.awready != 0 {
            self.address = Some(port.awaddr);
        }
        if port.wvalid & port.wready != 0 {
            self.data = Some((port.wdata, port.wstrb));
        }
        if let (Some(address), Some((data, strobes))) = (self.address, self.data) {
            if strobes == 0xf {
                shared.logic.user_write(BAR, address.into(), data);
            }
            port.bvalid = 1;
            self.reset();
        }
        if port.arvalid & port.arready != 0 {
            port.rdata = shared.logic.user_read(BAR, port.araddr.into());
            port.rvalid = 1;
        }
    }
}
