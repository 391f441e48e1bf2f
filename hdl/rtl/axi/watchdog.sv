`default_nettype none

// Breaks a deadlock: a beat waits because its FIFO is full while the other FIFO is empty, and only the data blocked behind that
// beat could let the core continue. After `limit` consecutive cycles of this, writes to the FIFO windows are dropped and refused
// until a flush. A `limit` of 0 disables the watchdog.
module watchdog (
    input  wire         clk,
    input  wire         rst_n,
    input  wire         flush,
    input  wire  [31:0] limit,
    input  wire         scalar_stalled,
    input  wire         scalars_empty,
    input  wire         point_stalled,
    input  wire         points_empty,
    output logic        dropping,
    output logic        fired
);
  logic [31:0] cycles;
  wire deadlock = (scalar_stalled && points_empty) || (point_stalled && scalars_empty);

  assign fired = deadlock && limit != '0 && cycles >= limit - 1'b1;

  always_ff @(posedge clk) begin
    if (!rst_n || flush) begin
      cycles   <= '0;
      dropping <= 1'b0;
    end else begin
      cycles <= (deadlock && !fired) ? cycles + 1'b1 : '0;
      if (fired) dropping <= 1'b1;
    end
  end
endmodule

`default_nettype wire
