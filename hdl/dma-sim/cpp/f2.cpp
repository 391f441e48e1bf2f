// C interface of the F2 image for Rust: one call per clock. `build.rs` defines MODEL, HEADER and NAME, and BRIDGE for `f2_bridge`, the
// image without the MSM design.
#include HEADER
#include <verilated.h>
#include <cstring>
#include "ports.h"

// The inputs and outputs of a slave's side: addresses, data and responses of a port that the image masters. The responses have the IDs
// that IN_ID makes of those in the struct.
#define TO_MASTER(IN, A, IN_ID)          \
    top.IN##awready = A.awready;         \
    top.IN##wready = A.wready;           \
    top.IN##bvalid = A.bvalid;           \
    top.IN##bid = IN_ID(A.bid);          \
    top.IN##bresp = A.bresp;             \
    top.IN##arready = A.arready;         \
    top.IN##rvalid = A.rvalid;           \
    top.IN##rid = IN_ID(A.rid);          \
    top.IN##rresp = A.rresp;             \
    top.IN##rlast = A.rlast;             \
    if (A.rvalid) memcpy(&top.IN##rdata[0], A.rdata, 64)
#define FROM_MASTER(OUT, A)              \
    A.awvalid = top.OUT##awvalid;        \
    A.awid = top.OUT##awid;              \
    A.awaddr = top.OUT##awaddr;          \
    A.awlen = top.OUT##awlen;            \
    A.awsize = top.OUT##awsize;          \
    A.awburst = top.OUT##awburst;        \
    A.wvalid = top.OUT##wvalid;          \
    A.wstrb = top.OUT##wstrb;            \
    A.wlast = top.OUT##wlast;            \
    A.bready = top.OUT##bready;          \
    A.arvalid = top.OUT##arvalid;        \
    A.arid = top.OUT##arid;              \
    A.araddr = top.OUT##araddr;          \
    A.arlen = top.OUT##arlen;            \
    A.arsize = top.OUT##arsize;          \
    A.arburst = top.OUT##arburst;        \
    A.rready = top.OUT##rready;          \
    if (A.wvalid) memcpy(A.wdata, &top.OUT##wdata[0], 64)
// The same for a port that the shell masters.
#define TO_SLAVE(IN, A)                  \
    top.IN##awvalid = A.awvalid;         \
    top.IN##awid = A.awid;               \
    top.IN##awaddr = A.awaddr;           \
    top.IN##awlen = A.awlen;             \
    top.IN##awsize = A.awsize;           \
    top.IN##awburst = A.awburst;         \
    top.IN##wvalid = A.wvalid;           \
    top.IN##wstrb = A.wstrb;             \
    top.IN##wlast = A.wlast;             \
    top.IN##bready = A.bready;           \
    top.IN##arvalid = A.arvalid;         \
    top.IN##arid = A.arid;               \
    top.IN##araddr = A.araddr;           \
    top.IN##arlen = A.arlen;             \
    top.IN##arsize = A.arsize;           \
    top.IN##arburst = A.arburst;         \
    top.IN##rready = A.rready;           \
    if (A.wvalid) memcpy(&top.IN##wdata[0], A.wdata, 64)
#define FROM_SLAVE(OUT, A)               \
    A.awready = top.OUT##awready;        \
    A.wready = top.OUT##wready;          \
    A.bvalid = top.OUT##bvalid;          \
    A.bid = top.OUT##bid;                \
    A.bresp = top.OUT##bresp;            \
    A.arready = top.OUT##arready;        \
    A.rvalid = top.OUT##rvalid;          \
    A.rid = top.OUT##rid;                \
    A.rresp = top.OUT##rresp;            \
    A.rlast = top.OUT##rlast;            \
    if (A.rvalid) memcpy(A.rdata, &top.OUT##rdata[0], 64)
#define SAME(id) (id)

#ifdef BRIDGE
#define CLOCK clk
#define RESET rst_n
#else
#define CLOCK clk_main_a0
#define RESET rst_main_n
#endif

namespace {
struct Sim {
    VerilatedContext context;
    MODEL top{&context};
};

#ifdef BRIDGE
// The top bit of an ID at the design's port selects the engine; the IDs of the shell are those of PCIS.
uint32_t design_id(uint8_t id) { return id | (id < 4 ? 1 << 16 : 0); }
#endif
}  // namespace

extern "C" {
void* NAME(new)() { return new Sim; }

void NAME(free)(void* raw) {
    Sim* sim = static_cast<Sim*>(raw);
    sim->top.final();
    delete sim;
}

// Runs one clock: drives the inputs and samples the outputs before the rising edge.
void NAME(step)(void* raw, F2Ports* ports) {
    MODEL& top = static_cast<Sim*>(raw)->top;
    F2Ports& p = *ports;
    Lite& l = p.ocl;
    top.RESET = p.rst_n;
#ifdef BRIDGE
    top.flr = p.flr;
    top.max_payload = p.max_payload;
    top.max_read_request = p.max_read_request;
    top.irq_ack = p.irq_ack;
    top.s_axil_awvalid = l.awvalid;
    top.s_axil_awaddr = l.awaddr;
    top.s_axil_wvalid = l.wvalid;
    top.s_axil_wdata = l.wdata;
    top.s_axil_wstrb = 15;
    top.s_axil_bready = l.bready;
    top.s_axil_arvalid = l.arvalid;
    top.s_axil_araddr = l.araddr;
    top.s_axil_rready = l.rready;
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
    top.ocl_cl_awvalid = l.awvalid;
    top.ocl_cl_awaddr = l.awaddr;
    top.ocl_cl_wvalid = l.wvalid;
    top.ocl_cl_wdata = l.wdata;
    top.ocl_cl_wstrb = 15;
    top.ocl_cl_bready = l.bready;
    top.ocl_cl_arvalid = l.arvalid;
    top.ocl_cl_araddr = l.araddr;
    top.ocl_cl_rready = l.rready;
    TO_MASTER(sh_cl_pcim_, p.pcim, SAME);
    TO_SLAVE(sh_cl_dma_pcis_, p.pcis);
#endif
    top.CLOCK = 0;
    top.eval();
#ifdef BRIDGE
    FROM_MASTER(m_host_, p.pcim);
    FROM_MASTER(m_axi_, p.design);
    FROM_SLAVE(s_axi_, p.pcis);
    l.awready = top.s_axil_awready;
    l.wready = top.s_axil_wready;
    l.bvalid = top.s_axil_bvalid;
    l.arready = top.s_axil_arready;
    l.rvalid = top.s_axil_rvalid;
    l.rdata = top.s_axil_rdata;
    p.user.awvalid = top.m_axil_awvalid;
    p.user.awaddr = top.m_axil_awaddr;
    p.user.wvalid = top.m_axil_wvalid;
    p.user.wdata = top.m_axil_wdata;
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
    l.awready = top.cl_ocl_awready;
    l.wready = top.cl_ocl_wready;
    l.bvalid = top.cl_ocl_bvalid;
    l.arready = top.cl_ocl_arready;
    l.rvalid = top.cl_ocl_rvalid;
    l.rdata = top.cl_ocl_rdata;
    p.irq_req = top.cl_sh_apppf_irq_req;
    p.flr_done = top.cl_sh_flr_done;
    p.busy = top.cl_sh_status_vled & 1;
    p.card_dead = top.cl_sh_status_vled >> 1 & 1;
#endif
    top.CLOCK = 1;
    top.eval();
}
}
