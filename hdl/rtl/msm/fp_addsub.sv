`default_nettype none

`include "parameter_check.svh"

// a + b or a - b modulo p, in the range [0, 2p), with a latency of LAT cycles.
module fp_addsub #(
    parameter bit SUB = 1'b0,
    parameter int LAT = 1,
    parameter int FP_IMPL = msm_pkg::FP_BEHAV
) (
    input  wire          clk,
    input  wire  [255:0] a,
    input  wire  [255:0] b,
    output logic [255:0] y
);
  `PARAMETER_CHECK(fp_addsub_LAT, LAT >= 0, "fp_addsub: LAT must be at least 0")
  `PARAMETER_CHECK(fp_addsub_FP_IMPL, FP_IMPL >= 0 && FP_IMPL <= 2, "fp_addsub: FP_IMPL must be 0, 1 or 2")

  logic [255:0] r;

  generate
    if (FP_IMPL == msm_pkg::FP_DPI) begin : g_dpi
      fp_addsub_dpi #(
          .SUB(SUB)
      ) u_addsub (
          .a,
          .b,
          .y(r)
      );
    end else begin : g_behav
      // The plain result, and the result corrected by 2p for when the plain one is out of range.
      wire [256:0] once = SUB ? {1'b0, a} - {1'b0, b} : {1'b0, a} + {1'b0, b};
      wire [256:0] fixed = SUB ? once + {1'b0, bn254_pkg::P2} : once - {1'b0, bn254_pkg::P2};
      // A sum needs correction if it stays non-negative after subtracting 2p, a difference if it is negative.
      wire use_fixed = SUB ? once[256] : !fixed[256];
      assign r = use_fixed ? fixed[255:0] : once[255:0];
    end
  endgenerate

  delay #(
      .W(256),
      .N(LAT)
  ) u_delay (
      .clk,
      .d(r),
      .q(y)
  );
endmodule

`default_nettype wire
