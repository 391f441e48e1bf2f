// C interface of `msm_design` for Rust: one call per clock, or one call for many clocks in which nothing happens. `build.rs`
// defines MODEL, HEADER, ROOT and NAME, and STUB for variants with the stub core.
#include HEADER
#include ROOT
#include <verilated.h>
#include <cstring>
#if VM_TRACE
#include <verilated_fst_c.h>
#endif
#include "ports.h"

// Signals inside the core.
#ifdef STUB
#define CORE(x) msm_design__DOT__g_stub__DOT__u_core__DOT__##x
#else
#define CORE(x) msm_design__DOT__g_real__DOT__u_core__DOT__##x
#endif

namespace {
struct Sim {
    VerilatedContext context;
    MODEL top{&context};
#if VM_TRACE
    VerilatedFstC* trace = nullptr;
#endif

    void eval() {
        top.eval();
#if VM_TRACE
        if (trace) trace->dump(context.time());
#endif
        context.timeInc(1);
    }

    void drive(const Ports& p) {
        top.rst_n = p.rst_n;
        top.s_axi_awvalid = p.awvalid;
        top.s_axi_awid = p.awid;
        top.s_axi_awaddr = p.awaddr;
        top.s_axi_awlen = p.awlen;
        top.s_axi_awsize = p.awsize;
        top.s_axi_awburst = p.awburst;
        top.s_axi_wvalid = p.wvalid;
        if (p.wvalid) {
            memcpy(&top.s_axi_wdata[0], p.wdata, sizeof p.wdata);
            top.s_axi_wstrb = p.wstrb;
            top.s_axi_wlast = p.wlast;
        }
        top.s_axi_bready = p.bready;
        top.s_axi_arvalid = p.arvalid;
        top.s_axi_arid = p.arid;
        top.s_axi_araddr = p.araddr;
        top.s_axi_arlen = p.arlen;
        top.s_axi_arsize = p.arsize;
        top.s_axi_arburst = p.arburst;
        top.s_axi_rready = p.rready;
        top.s_axil_awvalid = p.lite_awvalid;
        top.s_axil_awaddr = p.lite_awaddr;
        top.s_axil_wvalid = p.lite_wvalid;
        top.s_axil_wdata = p.lite_wdata;
        top.s_axil_wstrb = p.lite_wstrb;
        top.s_axil_bready = p.lite_bready;
        top.s_axil_arvalid = p.lite_arvalid;
        top.s_axil_araddr = p.lite_araddr;
        top.s_axil_rready = p.lite_rready;
    }

    void sample(Ports& p) {
        p.awready = top.s_axi_awready;
        p.wready = top.s_axi_wready;
        p.bvalid = top.s_axi_bvalid;
        p.bid = top.s_axi_bid;
        p.bresp = top.s_axi_bresp;
        p.arready = top.s_axi_arready;
        p.rvalid = top.s_axi_rvalid;
        if (p.rvalid) {
            p.rid = top.s_axi_rid;
            p.rresp = top.s_axi_rresp;
            p.rlast = top.s_axi_rlast;
            memcpy(p.rdata, &top.s_axi_rdata[0], sizeof p.rdata);
        }
        p.wr_full = top.wr_full;
        p.irq = top.irq;
        p.lite_awready = top.s_axil_awready;
        p.lite_wready = top.s_axil_wready;
        p.lite_bvalid = top.s_axil_bvalid;
        p.lite_bresp = top.s_axil_bresp;
        p.lite_arready = top.s_axil_arready;
        p.lite_rvalid = top.s_axil_rvalid;
        p.lite_rresp = top.s_axil_rresp;
        p.lite_rdata = top.s_axil_rdata;
    }

    // Runs one clock: drives the inputs and samples the outputs before the rising edge.
    void step(Ports& p) {
        drive(p);
        top.clk = 0;
        eval();
        sample(p);
        top.clk = 1;
        eval();
        fetch_bucket();
    }

    // Prefetches the bucket that is read in the clock after next: buckets take megabytes and are read in random order.
    void fetch_bucket() {
#ifndef STUB
        const char* bucket = reinterpret_cast<const char*>(&top.rootp->CORE(u_buckets__DOT__mem)[top.rootp->CORE(take_addr)]);
        __builtin_prefetch(bucket);
        __builtin_prefetch(bucket + 64);
#endif
    }
};

// Whether a channel transferred something, a response is waiting, or the interrupt changed.
bool happened(const Ports& p, uint8_t irq) {
    return (p.awvalid && p.awready) || (p.wvalid && p.wready) || (p.arvalid && p.arready) || p.bvalid ||
           p.rvalid || (p.lite_awvalid && p.lite_awready) || (p.lite_wvalid && p.lite_wready) ||
           (p.lite_arvalid && p.lite_arready) || p.lite_bvalid || p.lite_rvalid || p.irq != irq;
}
}  // namespace

extern "C" {
void* NAME(new)() { return new Sim; }

void NAME(free)(void* raw) {
    Sim* sim = static_cast<Sim*>(raw);
    sim->top.final();
#if VM_TRACE
    if (sim->trace) sim->trace->close();
    delete sim->trace;
#endif
    delete sim;
}

// Runs until something happens, for at most `max` clocks. Returns the number of clocks run.
uint64_t NAME(run)(void* raw, Ports* ports, uint64_t max) {
    Sim* sim = static_cast<Sim*>(raw);
    const uint8_t irq = ports->irq;
    uint64_t done = 0;
    while (done < max) {
        sim->step(*ports);
        done++;
        if (happened(*ports, irq)) break;
    }
    return done;
}

// Traces modules down to `levels` below the top, or all of them for 0. Returns whether the trace file is open.
int NAME(trace)(void* raw, const char* path, int levels) {
#if VM_TRACE
    Sim* sim = static_cast<Sim*>(raw);
    sim->context.traceEverOn(true);
    sim->trace = new VerilatedFstC;
    // `dumpvars` counts the spaces in full names: one before the top module and one before each signal.
    sim->trace->dumpvars(levels ? levels + 2 : 0, "TOP");
    sim->top.trace(sim->trace, 99);
    sim->trace->open(path);
    return sim->trace->isOpen();
#else
    (void)raw;
    (void)path;
    (void)levels;
    return 0;
#endif
}

// Sets the cycles per pair of the stub core. Returns 0 if the variant has the real core.
int NAME(set_pair_cycles)(void* raw, uint32_t cycles) {
#ifdef STUB
    static_cast<Sim*>(raw)->top.rootp->CORE(pair_cycles) = cycles;
    return 1;
#else
    (void)raw;
    (void)cycles;
    return 0;
#endif
}
}
