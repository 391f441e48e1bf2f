// The ports of `msm_design` except the clock; the layout must match `src/ports.rs`. Outputs are sampled before the last edge.
#pragma once
#include <cstdint>

struct Ports {
    uint64_t awaddr, araddr, wstrb;
    uint32_t lite_awaddr, lite_wdata, lite_araddr;
    uint8_t rst_n;
    uint8_t awvalid, awid, awlen, awsize, awburst;
    uint8_t wvalid, wlast, bready;
    uint8_t arvalid, arid, arlen, arsize, arburst;
    uint8_t rready;
    uint8_t lite_awvalid, lite_wvalid, lite_wstrb, lite_bready, lite_arvalid, lite_rready;
    uint8_t wdata[64];

    uint8_t rdata[64];
    uint32_t lite_rdata;
    uint8_t awready, wready, bvalid, bid, bresp;
    uint8_t arready, rvalid, rid, rresp, rlast;
    uint8_t wr_full, irq;
    uint8_t lite_awready, lite_wready, lite_bvalid, lite_bresp, lite_arready, lite_rvalid, lite_rresp;
};
