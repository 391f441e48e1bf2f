`default_nettype none

`include "parameter_check.svh"

// Declares a port dead if it makes no progress for `LIMIT` clocks, or `HURRY_LIMIT` clocks during a reset. It stays dead until then.
module dma_watchdog #(
    parameter int LIMIT = 1 << 30,
    parameter int HURRY_LIMIT = 1 << 18
) (
    input  wire  clk,
    input  wire  rst_n,
    // Something is under way; a handshake takes place.
    input  wire  waiting,
    input  wire  progress,
    input  wire  hurry,
    output logic dead
);
  `PARAMETER_CHECK(dma_watchdog_LIMIT, LIMIT >= 2, "dma_watchdog: LIMIT must be at least 2")
  `PARAMETER_CHECK(dma_watchdog_HURRY_LIMIT, HURRY_LIMIT >= 2 && HURRY_LIMIT <= LIMIT,
                   "dma_watchdog: HURRY_LIMIT must be 2 to LIMIT")

  localparam int CW = $clog2(LIMIT + 1);
  logic [CW-1:0] cycles;

  always_ff @(posedge clk) begin
    cycles <= (waiting && !progress) ? cycles + 1'b1 : '0;
    if (!rst_n) begin
      cycles <= '0;
      dead   <= 1'b0;
    end else if (cycles >= (hurry ? CW'(HURRY_LIMIT) : CW'(LIMIT))) begin
      cycles <= '0;
      dead   <= 1'b1;
    end
  end
endmodule

`default_nettype wire
