`default_nettype none

// Proves an interrupt line: no pulse without a message, none before the acknowledgement of the last one or the end of its time, and
// no message without a pulse.
module fv_dma_irq_line (
    input wire clk,
    input wire rst_n,
    input wire message,
    input wire ack
);
  localparam int ACK_CYCLES = 4;
  logic pulse;
  dma_irq_line #(.ACK_CYCLES(ACK_CYCLES)) dut (.*);

  logic past = 1'b0;
  logic owed, waiting;  // a message without a pulse; a pulse without an acknowledgement
  logic [3:0] cycles;  // since the pulse
  logic [3:0] delay;  // since nothing stands in the way of the message
  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {owed, waiting, cycles, delay} <= '0;
    end else if (past) begin
      assume (!ack || waiting || pulse);
      // A pulse is for the messages up to two cycles before it.
      owed <= message || (pulse ? $past(message) : owed);
      waiting <= !ack && (pulse || (waiting && cycles < 4'(ACK_CYCLES)));
      cycles <= pulse ? 4'd1 : cycles + 4'(waiting && cycles != '1);
      delay <= (owed && !pulse && !waiting) ? delay + 1'b1 : '0;
      if (pulse) assert (owed && !waiting);
      assert (delay < 4'd3);
      cover (pulse && cycles == '0 && $past(message, 3));
      cover (pulse && cycles > 4'd3);
    end
  end
endmodule

`default_nettype wire
