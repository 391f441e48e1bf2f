`default_nettype none

`include "parameter_check.svh"

// W x W multiplier built from tiles of 26 x 17 bits, one DSP48E2 each, and a tree of registered adders. The latency is
// 3 + $clog2(ROWS) cycles. Only the lower OW bits are computed; tiles above them are omitted.
module mul_tiled #(
    parameter  int W = 256,
    parameter  int OW = 2 * W,
    localparam int NA = (W + 25) / 26,
    localparam int NB = (W + 16) / 17,
    localparam int ROWS = 2 * NB,
    localparam int LEVELS = $clog2(ROWS)
) (
    input  wire           clk,
    input  wire  [ W-1:0] a,
    input  wire  [ W-1:0] b,
    output logic [OW-1:0] y
);
  `PARAMETER_CHECK(mul_tiled_W, W >= 1, "mul_tiled: W must be at least 1")
  `PARAMETER_CHECK(mul_tiled_OW, OW >= 1 && OW <= 2 * W, "mul_tiled: OW must be 1 to 2 W")

  logic [NA*26-1:0] a_q;
  logic [NB*17-1:0] b_q;
  always_ff @(posedge clk) begin
    a_q <= (NA * 26)'(a);
    b_q <= (NB * 17)'(b);
  end

  // The adder tree, stored as a heap: sums[1] is the root, and the leaves from sums[N] on are the rows of tiles.
  localparam int N = 1 << LEVELS;
  logic [OW-1:0] sums[0:2*N-1];

  genvar i, j, l;
  generate
    for (j = 0; j < NB; j = j + 1) begin : g_row
      // Tiles are 26 bits apart and 43 bits wide, so the even and the odd tiles form one row each.
      logic [52*((NA+1)/2)-1:0] even, odd;
      if (NA % 2 == 1) begin : g_short
        assign odd[52*(NA/2)+:52] = '0;
      end
      for (i = 0; i < NA; i = i + 1) begin : g_tile
        wire [51:0] tile;
        if (26 * i + 17 * j < OW) begin : g_dsp
          logic [42:0] product, product_q;
          always_ff @(posedge clk) begin
            product   <= 43'(a_q[26*i+:26]) * 43'(b_q[17*j+:17]);
            product_q <= product;
          end
          assign tile = 52'(product_q);
        end else begin : g_none
          assign tile = '0;
        end
        if (i % 2 == 0) begin : g_even
          assign even[52*(i/2)+:52] = tile;
        end else begin : g_odd
          assign odd[52*(i/2)+:52] = tile;
        end
      end
      assign sums[N+2*j]   = OW'(even) << (17 * j);
      assign sums[N+2*j+1] = OW'(odd) << (17 * j + 26);
      // Some bits are unused if only lower bits are computed.
      wire unused = &{1'b0, even, odd};
    end
    for (j = ROWS; j < N; j = j + 1) begin : g_pad
      assign sums[N+j] = '0;
    end
    // Node l is the sum of nodes 2l and 2l + 1.
    for (l = 1; l < N; l = l + 1) begin : g_node
      logic [OW-1:0] sum;
      always_ff @(posedge clk) sum <= sums[2*l] + sums[2*l+1];
      assign sums[l] = sum;
    end
  endgenerate
  assign sums[0] = '0;
  assign y = sums[1];
endmodule

`default_nettype wire
