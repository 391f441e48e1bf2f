`default_nettype none

`include "parameter_check.svh"

// `fp_mul` in C (`hdl/sim/cpp/fp.cpp`), only for simulation with Verilator.
module fp_mul_dpi #(
    parameter int ML = 12
) (
    input  wire          clk,
    input  wire  [255:0] a,
    input  wire  [255:0] b,
    output logic [255:0] y
);
  `PARAMETER_CHECK(fp_mul_dpi_ML, ML >= 1, "fp_mul_dpi: ML must be at least 1")

  import "DPI-C" pure function void msm_fp_mul(
    input  bit [255:0] a,
    input  bit [255:0] b,
    output bit [255:0] y
  );

  bit [255:0] product;
  always_comb msm_fp_mul(a, b, product);

  delay #(
      .W(256),
      .N(ML)
  ) u_delay (
      .clk,
      .d(product),
      .q(y)
  );
endmodule

`default_nettype wire
