`default_nettype none

// Proves the watchdog of a port: it declares the port dead after exactly LIMIT consecutive clocks without progress, or HURRY_LIMIT
// during a reset of the function, and the port stays dead until the engine is reset.
module fv_dma_watchdog (
    input wire clk,
    input wire rst_n,
    input wire waiting,
    input wire progress,
    input wire hurry
);
  localparam int LIMIT = 6, HURRY_LIMIT = 3;
  logic dead;
  dma_watchdog #(
      .LIMIT(LIMIT),
      .HURRY_LIMIT(HURRY_LIMIT)
  ) dut (
      .*
  );

  logic past = 1'b0;
  logic [3:0] stalled;  // clocks without progress
  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    stalled <= (rst_n && waiting && !progress && !dead) ? stalled + 1'b1 : '0;
    if (past && rst_n && $past(rst_n)) begin
      if ($past(dead)) assert (dead);
      else assert (dead == ($past(stalled) >= ($past(hurry) ? 4'(HURRY_LIMIT) : 4'(LIMIT))));
      cover (dead && $past(stalled) == 4'(LIMIT));
      cover (dead && $past(stalled) == 4'd5);
      cover (!dead && $past(stalled) == 4'd5 && stalled == '0);
    end
    if (past && $past(!rst_n)) assert (!dead);
  end
endmodule

`default_nettype wire
