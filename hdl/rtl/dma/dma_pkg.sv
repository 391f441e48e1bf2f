`default_nettype none

// Constants shared by the modules of the DMA engine.
package dma_pkg;
  // The length of a descriptor (PG195, "Descriptors").
  localparam int LEN_W = 28;

  // Why a descriptor in a mover ends its list without moving data.
  localparam logic [1:0] NO_FAULT = 2'd0;
  localparam logic [1:0] BAD_MAGIC = 2'd1;
  localparam logic [1:0] FETCH_FAILED = 2'd2;
  localparam logic [1:0] MISALIGNED = 2'd3;
endpackage

`default_nettype wire
