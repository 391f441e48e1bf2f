// The ports of `dma_engine` and of the F2 image except the clock; the layout must match
// `src/ports.rs`. Outputs are sampled before the last edge.
#pragma once
#include <cstdint>

struct Axi {
    // From the engine.
    uint64_t awaddr, araddr, wstrb;
    uint8_t wdata[64];
    // To the engine.
    uint8_t rdata[64];
    uint8_t awready, wready, bvalid, bid, bresp;
    uint8_t arready, rvalid, rid, rresp, rlast;
    // From the engine.
    uint8_t awvalid, awid, awlen, awsize, awburst;
    uint8_t wvalid, wlast, bready;
    uint8_t arvalid, arid, arlen, arsize, arburst, rready;
};

struct Lite {
    uint32_t awaddr, wdata, araddr, rdata;
    uint8_t awvalid, awready, wvalid, wstrb, wready, bvalid, bready, arvalid, arready, rvalid, rready;
};

struct Ports {
    Axi host, card;
    Lite lite;
    uint16_t user_irq, irq_ack, irq_req;
    // To the engine.
    uint8_t rst_n, flr, max_payload, max_read_request;
    // From the engine.
    uint8_t flr_done, card_dead;
};

struct F2Ports {
    // Mastered by the image, by the shell, and by the image without the MSM design.
    Axi pcim, pcis, design;
    Lite ocl, user;
    uint16_t irq_ack, irq_req, design_irq;
    // To the image.
    uint8_t rst_n, flr, max_payload, max_read_request;
    // From the image.
    uint8_t flr_done, card_dead, busy;
};
