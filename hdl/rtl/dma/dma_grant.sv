`default_nettype none

`include "parameter_check.svh"

// Round-robin arbiter: grants one request a cycle, and after `taken` prefers the next clients.
module dma_grant #(
    parameter  int N  = 2,
    localparam int NW = (N > 1) ? $clog2(N) : 1
) (
    input  wire           clk,
    input  wire           rst_n,
    input  wire  [ N-1:0] request,
    output logic [NW-1:0] index,
    output logic          valid,
    input  wire           taken
);
  `PARAMETER_CHECK(dma_grant_N, N >= 1, "dma_grant: N must be at least 1")

  logic [N-1:0] later;  // clients after the last one granted
  wire [N-1:0] preferred = request & later;
  wire [N-1:0] candidates = (preferred != '0) ? preferred : request;

  integer i;
  always_comb begin
    index = '0;
    for (i = N - 1; i >= 0; i = i - 1) if (candidates[i]) index = NW'(i);
  end
  assign valid = request != '0;

  always_ff @(posedge clk) begin
    if (!rst_n) later <= '0;
    else if (valid && taken) later <= ~({N{1'b1}} >> (NW'(N - 1) - index));
  end
endmodule

`default_nettype wire
