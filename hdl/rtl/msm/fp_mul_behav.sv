`default_nettype none

`include "parameter_check.svh"

// `fp_mul` with the `*` operator.
module fp_mul_behav #(
    parameter int ML = 12
) (
    input  wire          clk,
    input  wire  [255:0] a,
    input  wire  [255:0] b,
    output logic [255:0] y
);
  localparam int LEAST = 3;

  `PARAMETER_CHECK(fp_mul_behav_ML, ML >= LEAST, "fp_mul_behav: ML must be at least 3")

  logic [511:0] product, product_q;
  logic [255:0] factor;
  // `factor` makes the lower half of the sum zero.
  logic [512:0] sum;

  always_ff @(posedge clk) begin
    product <= 512'(a) * 512'(b);
    product_q <= product;
    factor <= product[255:0] * bn254_pkg::NINV;
    sum <= 513'(product_q) + 513'(512'(factor) * 512'(bn254_pkg::P));
  end

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
