// C interface of the F2 image for Rust: one call per clock. `build.rs` defines BRIDGE for `f2_bridge`, the image without the MSM
// design.
#include "model.h"

#ifdef BRIDGE
#define CLOCK clk
#define RESET rst_n
#else
#define CLOCK clk_main_a0
#define RESET rst_main_n
#endif

namespace {
#ifdef BRIDGE
// The top bit of an ID at the design's port selects the engine; the IDs of the shell are those of PCIS.
uint32_t design_id(uint8_t id) { return id | (id < 4 ? 1 << 16 : 0); }
#endif
}  // namespace

extern "C" {
// Runs one clock: drives the inputs and samples the outputs before the rising edge.
void NAME(step)(void* raw, F2Ports* ports) {
    MODEL& top = static_cast<Sim*>(raw)->top;
    F2Ports& p = *ports;
    top.RESET = p.rst_n;
#ifdef BRIDGE
    top.flr = p.flr;
    top.max_payload = p.max_payload;
    top.max_read_request = p.max_read_request;
    top.irq_ack = p.irq_ack;
    TO_REGISTERS(s_axil_, p.ocl);
    TO_MASTER(m_host_, p.pcim, SAME);
    TO_MASTER(m_axi_, p.design, design_id);
    TO_SLAVE(s_axi_, p.pcis);
    top.design_irq = p.design_irq;
    top.m_axil_awready = p.user.awready;
    top.m_axil_wready = p.user.wready;
    top.m_axil_bvalid = p.user.bvalid;
    top.m_axil_bresp = 0;
    top.m_axil_arready = p.user.arready;
    top.m_axil_rvalid = p.user.rvalid;
    top.m_axil_rdata = p.user.rdata;
    top.m_axil_rresp = 0;
#else
    top.sh_cl_flr_assert = p.flr;
    top.cfg_max_payload = p.max_payload;
    top.cfg_max_read_req = p.max_read_request;
    top.sh_cl_apppf_irq_ack = p.irq_ack;
    TO_REGISTERS(ocl_cl_, p.ocl);
    TO_MASTER(sh_cl_pcim_, p.pcim, SAME);
    TO_SLAVE(sh_cl_dma_pcis_, p.pcis);
#endif
    top.CLOCK = 0;
    top.eval();
#ifdef BRIDGE
    FROM_MASTER(m_host_, p.pcim);
    FROM_MASTER(m_axi_, p.design);
    FROM_SLAVE(s_axi_, p.pcis);
    FROM_REGISTERS(s_axil_, p.ocl);
    p.user.awvalid = top.m_axil_awvalid;
    p.user.awaddr = top.m_axil_awaddr;
    p.user.wvalid = top.m_axil_wvalid;
    p.user.wdata = top.m_axil_wdata;
    p.user.wstrb = top.m_axil_wstrb;
    p.user.bready = top.m_axil_bready;
    p.user.arvalid = top.m_axil_arvalid;
    p.user.araddr = top.m_axil_araddr;
    p.user.rready = top.m_axil_rready;
    p.irq_req = top.irq_req;
    p.flr_done = top.flr_done;
    p.card_dead = top.card_dead;
#else
    FROM_MASTER(cl_sh_pcim_, p.pcim);
    FROM_SLAVE(cl_sh_dma_pcis_, p.pcis);
    FROM_REGISTERS(cl_ocl_, p.ocl);
    p.irq_req = top.cl_sh_apppf_irq_req;
    p.flr_done = top.cl_sh_flr_done;
    p.busy = top.cl_sh_status_vled & 1;
    p.card_dead = top.cl_sh_status_vled >> 1 & 1;
#endif
    top.CLOCK = 1;
    top.eval();
}
}
