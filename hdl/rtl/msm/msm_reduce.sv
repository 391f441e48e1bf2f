`default_nettype none

`include "parameter_check.svh"

// Schedules the additions that reduce all buckets to one point.
//
// Sums: for every window, from the top bucket down, sum += acc and acc += bucket. In the end, sum is the total of all buckets,
// each multiplied by its digit. A step handles one bucket of every window: the windows go through the adder back to back, and
// each step waits for the one before.
// Chain: combines the windows' sums by Horner's rule.
// Scale: scalars in Montgomery form are 2^256 times too large. Instead of every scalar, the result is multiplied by 2^-256 modulo
// r, once per task.
module msm_reduce #(
    parameter  int C = 13,
    localparam int W = bn254_pkg::SCALAR_BITS / C + 1,
    localparam int A = $clog2(W << (C - 1)),
    localparam int WW = $clog2(W)
) (
    input  wire           clk,
    input  wire           rst_n,
    input  wire           abort,
    input  wire           start,
    input  wire           montgomery,
    output logic          busy,
    // The adder accepts an addition issued now; no addition is in flight.
    input  wire           slot,
    input  wire           idle,
    output logic          issue,
    output logic [   1:0] to,
    output logic [WW-1:0] window,
    output logic [ A-1:0] bucket_addr,
    // The first step: acc and sum are infinity.
    output logic          first,
    output logic [   1:0] operand,
    // Load the chain with the top window's sum; load the base with the chain.
    output logic          load_chain,
    output logic          load_base
);
  `PARAMETER_CHECK(msm_reduce_C, C >= 2 && C <= 16, "msm_reduce: C must be 2 to 16")

  localparam int CW = $clog2(C + 1);
  localparam logic [WW-1:0] TOP_WINDOW = WW'(W - 1);
  // The bit below the top bit of R_INV.
  localparam logic [7:0] FIRST_BIT = 8'd251;

  typedef enum logic [2:0] {
    IDLE,
    SUMS,
    STEP,
    CHAIN,
    CHAINED,
    SCALE,
    SCALED
  } state_t;
  state_t state;

  logic [C-1:0] bucket;  // top bit: all buckets are in acc, and the last sum follows
  logic [CW-1:0] doublings;  // to do before the next window's sum is added
  logic [7:0] scale_bit;
  logic adds_base;  // the next addition for this bit adds the base

  wire rest = bucket[C-1];
  wire go = slot && idle;

  assign bucket_addr = A'({window, bucket[C-2:0]});
  assign busy = state != IDLE;
  assign load_chain = state == STEP && idle && rest;
  assign load_base = state == CHAINED && idle;

  always_comb begin
    issue = 1'b0;
    operand = msm_pkg::ADD_SELF;
    case (state)
      SUMS: issue = slot;
      CHAIN: begin
        issue = go;
        if (doublings == '0) operand = msm_pkg::ADD_SUM;
      end
      SCALE: begin
        issue = go;
        if (adds_base) operand = msm_pkg::ADD_BASE;
      end
      default: ;
    endcase
  end

  always_ff @(posedge clk) begin
    case (state)
      IDLE:
      if (start) begin
        state <= SUMS;
        bucket <= {1'b0, {(C - 1) {1'b1}}};
        window <= '0;
        to <= msm_pkg::TO_SUM;
        first <= 1'b1;
      end
      SUMS:
      if (slot) begin
        if (to == msm_pkg::TO_SUM && !rest) begin
          to <= msm_pkg::TO_ACC;
        end else begin
          to <= msm_pkg::TO_SUM;
          window <= window + 1'b1;
          if (window == TOP_WINDOW) state <= STEP;
        end
      end
      STEP:
      if (idle) begin
        first <= 1'b0;
        bucket <= bucket - 1'b1;
        window <= '0;
        state <= SUMS;
        if (rest) begin
          to <= msm_pkg::TO_CHAIN;
          window <= TOP_WINDOW - 1'b1;
          doublings <= CW'(C);
          state <= CHAIN;
        end
      end
      CHAIN:
      if (go) begin
        doublings <= doublings - 1'b1;
        if (doublings == '0) begin
          doublings <= CW'(C);
          window <= window - 1'b1;
          if (window == '0) state <= CHAINED;
        end
      end
      CHAINED:
      if (idle) begin
        scale_bit <= FIRST_BIT;
        adds_base <= 1'b0;
        state <= montgomery ? SCALE : IDLE;
      end
      SCALE:
      if (go) begin
        if (bn254_pkg::R_INV[scale_bit] && !adds_base) begin
          adds_base <= 1'b1;
        end else begin
          adds_base <= 1'b0;
          scale_bit <= scale_bit - 1'b1;
          if (scale_bit == '0) state <= SCALED;
        end
      end
      default: if (idle) state <= IDLE;
    endcase
    if (!rst_n || abort) state <= IDLE;
  end
endmodule

`default_nettype wire
