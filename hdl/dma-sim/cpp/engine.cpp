// C interface of `dma_engine` for Rust: one call per clock. `build.rs` defines MODEL, HEADER and NAME.
#include HEADER
#include <verilated.h>
#include <cstring>
#include "ports.h"

// Copies between the ports with a prefix and one `Axi`.
#define DRIVE(P, A)                                     \
    top.P##_awready = A.awready;                        \
    top.P##_wready = A.wready;                          \
    top.P##_bvalid = A.bvalid;                          \
    top.P##_bid = A.bid;                                \
    top.P##_bresp = A.bresp;                            \
    top.P##_arready = A.arready;                        \
    top.P##_rvalid = A.rvalid;                          \
    top.P##_rid = A.rid;                                \
    top.P##_rresp = A.rresp;                            \
    top.P##_rlast = A.rlast;                            \
    if (A.rvalid) memcpy(&top.P##_rdata[0], A.rdata, 64)
#define SAMPLE(P, A)                     \
    A.awvalid = top.P##_awvalid;         \
    A.awid = top.P##_awid;               \
    A.awaddr = top.P##_awaddr;           \
    A.awlen = top.P##_awlen;             \
    A.awsize = top.P##_awsize;           \
    A.awburst = top.P##_awburst;         \
    A.wvalid = top.P##_wvalid;           \
    A.wstrb = top.P##_wstrb;             \
    A.wlast = top.P##_wlast;             \
    A.bready = top.P##_bready;           \
    A.arvalid = top.P##_arvalid;         \
    A.arid = top.P##_arid;               \
    A.araddr = top.P##_araddr;           \
    A.arlen = top.P##_arlen;             \
    A.arsize = top.P##_arsize;           \
    A.arburst = top.P##_arburst;         \
    A.rready = top.P##_rready;           \
    if (A.wvalid) memcpy(A.wdata, &top.P##_wdata[0], 64)

namespace {
struct Sim {
    VerilatedContext context;
    MODEL top{&context};
};
}  // namespace

extern "C" {
void* NAME(new)() { return new Sim; }

void NAME(free)(void* raw) {
    Sim* sim = static_cast<Sim*>(raw);
    sim->top.final();
    delete sim;
}

// Runs one clock: drives the inputs and samples the outputs before the rising edge.
void NAME(step)(void* raw, Ports* ports) {
    MODEL& top = static_cast<Sim*>(raw)->top;
    Ports& p = *ports;
    top.rst_n = p.rst_n;
    top.flr = p.flr;
    top.max_payload = p.max_payload;
    top.max_read_request = p.max_read_request;
    top.user_irq = p.user_irq;
    top.irq_ack = p.irq_ack;
    top.s_axil_awvalid = p.lite_awvalid;
    top.s_axil_awaddr = p.lite_awaddr;
    top.s_axil_wvalid = p.lite_wvalid;
    top.s_axil_wdata = p.lite_wdata;
    top.s_axil_wstrb = 15;
    top.s_axil_bready = p.lite_bready;
    top.s_axil_arvalid = p.lite_arvalid;
    top.s_axil_araddr = p.lite_araddr;
    top.s_axil_rready = p.lite_rready;
    DRIVE(m_host, p.host);
    DRIVE(m_card, p.card);
    top.clk = 0;
    top.eval();
    SAMPLE(m_host, p.host);
    SAMPLE(m_card, p.card);
    p.lite_awready = top.s_axil_awready;
    p.lite_wready = top.s_axil_wready;
    p.lite_bvalid = top.s_axil_bvalid;
    p.lite_arready = top.s_axil_arready;
    p.lite_rvalid = top.s_axil_rvalid;
    p.lite_rdata = top.s_axil_rdata;
    p.irq_req = top.irq_req;
    p.flr_done = top.flr_done;
    p.card_dead = top.card_dead;
    top.clk = 1;
    top.eval();
}
}
