// What the C interfaces of all models share. `build.rs` defines MODEL, HEADER and NAME.
#pragma once
#include HEADER
#include <verilated.h>
#include <cstring>
#include "ports.h"

// The inputs and outputs of a slave's side: addresses, data and responses of a port that the model masters. The responses have the IDs
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

// The inputs and outputs of a register port of the model, whose prefixes may differ.
#define TO_REGISTERS(IN, L)              \
    top.IN##awvalid = L.awvalid;         \
    top.IN##awaddr = L.awaddr;           \
    top.IN##wvalid = L.wvalid;           \
    top.IN##wdata = L.wdata;             \
    top.IN##wstrb = L.wstrb;             \
    top.IN##bready = L.bready;           \
    top.IN##arvalid = L.arvalid;         \
    top.IN##araddr = L.araddr;           \
    top.IN##rready = L.rready
#define FROM_REGISTERS(OUT, L)           \
    L.awready = top.OUT##awready;        \
    L.wready = top.OUT##wready;          \
    L.bvalid = top.OUT##bvalid;          \
    L.arready = top.OUT##arready;        \
    L.rvalid = top.OUT##rvalid;          \
    L.rdata = top.OUT##rdata

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
}
