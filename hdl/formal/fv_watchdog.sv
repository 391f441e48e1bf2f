`default_nettype none

// Proves that the watchdog fires after exactly `limit` consecutive cycles of a deadlock, and that writes are then dropped until a
// flush.
module fv_watchdog (
    input wire clk,
    input wire rst_n,
    input wire flush,
    input wire scalar_stalled,
    input wire scalars_empty,
    input wire point_stalled,
    input wire points_empty
);
  (* anyconst *)
  logic [31:0] limit;
  logic dropping, fired;
  logic past = 1'b0;
  logic [31:0] held;  // deadlock cycles before this one
  logic drops;
  wire deadlock = (scalar_stalled && points_empty) || (point_stalled && scalars_empty);

  watchdog dut (.*);

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n || flush) begin
      held  <= '0;
      drops <= 1'b0;
    end else begin
      held <= (deadlock && !fired) ? held + 1'b1 : '0;
      if (fired) drops <= 1'b1;
    end
    if (past && rst_n) begin
      assume (held < 32'hffff_fff0);
      assert (fired == (deadlock && limit != 0 && held + 32'd1 >= limit));
      assert (dropping == drops);
      cover (dropping && limit == 32'd4);
    end
  end
endmodule

`default_nettype wire
