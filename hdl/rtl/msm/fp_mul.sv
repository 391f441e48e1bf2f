`default_nettype none

`include "parameter_check.svh"

// Montgomery product a b / 2^256 modulo p. Inputs and output are below 2p; since 4p < 2^256, no final subtraction is needed.
// One product per cycle, with a latency of ML cycles.
module fp_mul #(
    parameter int ML = 25,
    parameter int FP_IMPL = msm_pkg::FP_TILED
) (
    input  wire          clk,
    input  wire  [255:0] a,
    input  wire  [255:0] b,
    output logic [255:0] y
);
  `PARAMETER_CHECK(fp_mul_ML, ML >= 1, "fp_mul: ML must be at least 1")
  `PARAMETER_CHECK(fp_mul_FP_IMPL, FP_IMPL >= 0 && FP_IMPL <= 2, "fp_mul: FP_IMPL must be 0, 1 or 2")

  generate
    if (FP_IMPL == msm_pkg::FP_DPI) begin : g_dpi
      fp_mul_dpi #(
          .ML(ML)
      ) u_mul (
          .clk,
          .a,
          .b,
          .y
      );
    end else if (FP_IMPL == msm_pkg::FP_TILED) begin : g_tiled
      fp_mul_tiled #(
          .ML(ML)
      ) u_mul (
          .clk,
          .a,
          .b,
          .y
      );
    end else begin : g_behav
      fp_mul_behav #(
          .ML(ML)
      ) u_mul (
          .clk,
          .a,
          .b,
          .y
      );
    end
  endgenerate
endmodule

`default_nettype wire
