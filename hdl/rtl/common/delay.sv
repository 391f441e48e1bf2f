`default_nettype none

`include "parameter_check.svh"

// Delays a word by N cycles. For N >= 3, the delay is a ring buffer in memory, which maps to SRLs or RAM and simulates
// quickly.
module delay #(
    parameter int W = 8,
    parameter int N = 1
) (
    input  wire          clk,
    input  wire  [W-1:0] d,
    output logic [W-1:0] q
);
  `PARAMETER_CHECK(delay_W, W >= 1, "delay: W must be at least 1")
  `PARAMETER_CHECK(delay_N, N >= 0, "delay: N must be at least 0")

  generate
    if (N == 0) begin : g_wire
      assign q = d;
      wire unused = &{1'b0, clk};
    end else if (N == 1) begin : g_reg
      always_ff @(posedge clk) q <= d;
    end else if (N == 2) begin : g_regs
      logic [W-1:0] between;
      always_ff @(posedge clk) begin
        between <= d;
        q <= between;
      end
    end else begin : g_ring
      localparam int M = N - 1;
      localparam int PW = $clog2(M);
      logic [ W-1:0] mem                         [0:M-1];
      logic [PW-1:0] ptr = '0;
      always_ff @(posedge clk) begin
        q <= mem[ptr];
        mem[ptr] <= d;
        ptr <= (ptr == PW'(M - 1)) ? '0 : ptr + 1'b1;
      end
    end
  endgenerate
endmodule

`default_nettype wire
