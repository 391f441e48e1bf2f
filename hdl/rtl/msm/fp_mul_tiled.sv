`default_nettype none

`include "parameter_check.svh"

// `fp_mul` for synthesis: a full product, the lower half of a product, and another full product, all built from DSP tiles.
module fp_mul_tiled #(
    parameter int ML = 25
) (
    input  wire          clk,
    input  wire  [255:0] a,
    input  wire  [255:0] b,
    output logic [255:0] y
);
  localparam int MUL = 8;  // latency of each `mul_tiled`
  localparam int LEAST = 3 * MUL + 1;

  `PARAMETER_CHECK(fp_mul_tiled_ML, ML >= LEAST, "fp_mul_tiled: ML must be at least 25")

  logic [511:0] product, product_q, reduction;
  logic [255:0] factor;
  logic [512:0] sum;

  mul_tiled u_product (
      .clk,
      .a,
      .b,
      .y(product)
  );
  mul_tiled #(
      .OW(256)
  ) u_factor (
      .clk,
      .a(product[255:0]),
      .b(bn254_pkg::NINV),
      .y(factor)
  );
  mul_tiled u_reduction (
      .clk,
      .a(factor),
      .b(bn254_pkg::P),
      .y(reduction)
  );
  delay #(
      .W(512),
      .N(2 * MUL)
  ) u_product_q (
      .clk,
      .d(product),
      .q(product_q)
  );
  // `factor` makes the lower half of the sum zero.
  always_ff @(posedge clk) sum <= 513'(product_q) + 513'(reduction);

  delay #(
      .W(256),
      .N(ML - LEAST)
  ) u_delay (
      .clk,
      .d(sum[511:256]),
      .q(y)
  );

  wire unused = &{1'b0, sum[512], sum[255:0]};
endmodule

`default_nettype wire
