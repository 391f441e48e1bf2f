`default_nettype none

// Constants shared by several modules.
package msm_pkg;
  // AXI responses and bursts.
  localparam logic [1:0] OKAY = 2'b00;
  localparam logic [1:0] SLVERR = 2'b10;
  localparam logic [1:0] DECERR = 2'b11;
  localparam logic [1:0] FIXED = 2'b00;
  localparam logic [1:0] INCR = 2'b01;

  // FP_IMPL, the implementation of the field arithmetic.
  localparam int FP_BEHAV = 0;  // the `*` operator
  localparam int FP_TILED = 1;  // tiles of 26 x 17 bits, one DSP48E2 each; for synthesis
  localparam int FP_DPI = 2;  // a C function, for fast simulation

  // Destination of an addition's result.
  localparam logic [1:0] TO_BUCKET = 2'd0;
  localparam logic [1:0] TO_ACC = 2'd1;
  localparam logic [1:0] TO_SUM = 2'd2;
  localparam logic [1:0] TO_CHAIN = 2'd3;

  // Second operand of an addition to the chain.
  localparam logic [1:0] ADD_SELF = 2'd0;
  localparam logic [1:0] ADD_SUM = 2'd1;
  localparam logic [1:0] ADD_BASE = 2'd2;
endpackage

`default_nettype wire
