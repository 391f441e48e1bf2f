`default_nettype none

`include "parameter_check.svh"

// Recodes the lowest C bits of a scalar and a carry into one signed digit in (-2^(C-1), 2^(C-1)] and a carry.
// Bucket b accumulates the points of digit b + 1 and the negated points of digit -(b + 1).
module digit_recode #(
    parameter int C = 13
) (
    input  wire  [C-1:0] bits,
    input  wire          carry_in,
    output logic         zero,
    output logic         negative,
    output logic [C-2:0] bucket,
    output logic         carry_out
);
  `PARAMETER_CHECK(digit_recode_C, C >= 2, "digit_recode: C must be at least 2")

  localparam logic [C:0] HALF = (C + 1)'(1) << (C - 1);

  wire [C:0] raw = {1'b0, bits} + (C + 1)'(carry_in);
  wire [C:0] magnitude = negative ? (HALF << 1) - raw : raw;
  wire [C:0] below = magnitude - 1'b1;

  assign negative = raw > HALF;
  assign zero = magnitude == '0;
  assign bucket = below[C-2:0];
  assign carry_out = negative;

  wire unused = &{1'b0, below[C:C-1]};
endmodule

`default_nettype wire
