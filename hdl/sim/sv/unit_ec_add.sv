`default_nettype none

// The adder with dedicated multipliers, and with shared multipliers of even and of odd latency.
module unit_ec_add (
    input  wire           clk,
    input  wire           rst_n,
    input  wire  [1567:0] in,     // {valid, tag, q, p}: bit 1552, 16 bits, 768 bits each
    // {ready, valid, tag, sum} of each adder, 800 bits apart
    output logic [2399:0] out
);
  wire [767:0] p = in[767:0], q = in[1535:768];
  wire [15:0] tag = in[1551:1536];
  wire valid = in[1552];

  genvar i;
  generate
    for (i = 0; i < 3; i = i + 1) begin : g_adder
      logic ready, out_valid;
      logic [15:0] out_tag;
      logic [767:0] sum;
      ec_add #(
          .II((i == 0) ? 1 : 2),
          .ML((i == 2) ? 7 : 4),
          .AL((i == 2) ? 2 : 1),
          .FP_IMPL((i == 0) ? msm_pkg::FP_BEHAV : msm_pkg::FP_DPI),
          .TAG_W(16)
      ) u_add (
          .clk,
          .rst_n,
          .in_ready(ready),
          .in_valid(valid && ready),
          .in_tag(tag),
          .p,
          .q,
          .out_valid,
          .out_tag,
          .sum
      );
      assign out[800*i+:800] = {14'd0, ready, out_valid, out_tag, sum};
    end
  endgenerate
endmodule

`default_nettype wire
