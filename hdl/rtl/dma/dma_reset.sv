`default_nettype none

`include "parameter_check.svh"

// The function-level reset. The engine stops, all requests are answered, the registers are cleared, and `done` is pulsed. If the
// host does not answer within `LIMIT` clocks, the engine is cleared anyway.
module dma_reset #(
    // The F1 shell allowed 4 ms; no figure is published for F2.
    parameter int LIMIT = 750_000
) (
    input  wire  clk,
    input  wire  rst_n,
    input  wire  flr,
    output logic done,
    // Nothing is under way.
    input  wire  idle,
    // The channels stop.
    output logic cancel,
    // The reset of everything but the register port.
    output logic engine_rst_n
);
  `PARAMETER_CHECK(dma_reset_LIMIT, LIMIT >= 2, "dma_reset: LIMIT must be at least 2")

  localparam int CW = $clog2(LIMIT + 1);
  logic [CW-1:0] cycles;
  logic served;  // this request
  wire finish = cancel && ((idle && cycles >= CW'(2)) || cycles == CW'(LIMIT));

  always_ff @(posedge clk) begin
    cycles <= cancel ? cycles + 1'b1 : '0;
    if (!rst_n) begin
      {cancel, served, done} <= '0;
      engine_rst_n <= 1'b0;
    end else begin
      cancel <= flr && !served && !finish;
      served <= flr && (served || finish);
      engine_rst_n <= !finish;
      done <= !engine_rst_n && served;
    end
  end
endmodule

`default_nettype wire
