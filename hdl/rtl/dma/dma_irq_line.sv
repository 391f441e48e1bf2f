`default_nettype none

`include "parameter_check.svh"

// An interrupt line to the shell: one pulse per message, and no further pulse until the shell has acknowledged it or the time for
// that is over. Messages in the meantime are combined.
module dma_irq_line #(
    parameter int ACK_CYCLES = 1 << 20
) (
    input  wire  clk,
    input  wire  rst_n,
    input  wire  message,
    output logic pulse,
    input  wire  ack
);
  `PARAMETER_CHECK(dma_irq_line_ACK_CYCLES, ACK_CYCLES >= 2, "dma_irq_line: ACK_CYCLES must be at least 2")

  localparam int CW = $clog2(ACK_CYCLES);

  logic wanted, waiting;
  logic [CW-1:0] cycles;
  wire over = ack || cycles == CW'(ACK_CYCLES - 1);
  wire send = wanted && !waiting;

  always_ff @(posedge clk) begin
    cycles <= waiting ? cycles + 1'b1 : '0;
    if (!rst_n) begin
      {wanted, waiting, pulse} <= '0;
    end else begin
      if (message) wanted <= 1'b1;
      else if (send) wanted <= 1'b0;
      if (send) waiting <= 1'b1;
      else if (over) waiting <= 1'b0;
      pulse <= send;
    end
  end
endmodule

`default_nettype wire
