`default_nettype none

`include "parameter_check.svh"

// The interrupt block (PG195, "IRQ Block Registers"). A request is an enabled source. When it rises, its message is sent on the
// line that has the number of its vector. Vectors from 16 on have no line, so their messages are lost.
module dma_irq #(
    parameter int CHANNELS   = 2,
    parameter int ACK_CYCLES = 1 << 20
) (
    input wire clk,
    input wire rst_n,

    input  wire         write,
    input  wire  [ 7:0] write_offset,
    // The bits that are written. In the others, registers keep their value, and `write_data` is zero.
    input  wire  [31:0] write_mask,
    input  wire  [31:0] write_data,
    input  wire  [ 7:0] read_offset,
    output logic [31:0] read_data,

    // The H2C channels first.
    input  wire  [CHANNELS-1:0] channel_source,
    input  wire  [        15:0] user_source,
    output logic [        15:0] irq_req,
    input  wire  [        15:0] irq_ack
);
  `PARAMETER_CHECK(dma_irq_CHANNELS, CHANNELS >= 1 && CHANNELS <= 8, "dma_irq: CHANNELS must be 1 to 8")

  // User lines first, then channels.
  localparam int SOURCES = 16 + CHANNELS;
  localparam logic [31:0] VECTORS = 32'h1f1f1f1f;

  logic [15:0] user_enable;
  logic [CHANNELS-1:0] channel_enable;
  logic [31:0] user_vectors[0:3];
  logic [31:0] channel_vectors[0:1];

  wire [15:0] user_request = user_source & user_enable;
  wire [CHANNELS-1:0] channel_request = channel_source & channel_enable;
  wire [SOURCES-1:0] request = {channel_request, user_request};
  logic [SOURCES-1:0] was_high;
  wire [SOURCES-1:0] rises = request & ~was_high;

  wire in_user_vectors = write_offset[7:4] == xdma_regs_pkg::IRQ_USER_VECTORS[7:4];
  wire in_channel_vectors = write_offset[7:3] == xdma_regs_pkg::IRQ_CHANNEL_VECTORS[7:3];

  integer i;
  always_ff @(posedge clk) begin
    if (!rst_n) begin
      user_enable <= '0;
      channel_enable <= '0;
      was_high <= '0;
      for (i = 0; i < 4; i = i + 1) user_vectors[i] <= '0;
      for (i = 0; i < 2; i = i + 1) channel_vectors[i] <= '0;
    end else begin
      was_high <= request;
      if (write) begin
        case (write_offset)
          xdma_regs_pkg::IRQ_USER_ENABLE: user_enable <= (user_enable & ~write_mask[15:0]) | write_data[15:0];
          xdma_regs_pkg::IRQ_USER_ENABLE_W1S: user_enable <= user_enable | write_data[15:0];
          xdma_regs_pkg::IRQ_USER_ENABLE_W1C: user_enable <= user_enable & ~write_data[15:0];
          xdma_regs_pkg::IRQ_CHANNEL_ENABLE: if (write_mask[0]) channel_enable <= write_data[CHANNELS-1:0];
          xdma_regs_pkg::IRQ_CHANNEL_ENABLE_W1S: channel_enable <= channel_enable | write_data[CHANNELS-1:0];
          xdma_regs_pkg::IRQ_CHANNEL_ENABLE_W1C: channel_enable <= channel_enable & ~write_data[CHANNELS-1:0];
          default: begin
            if (in_user_vectors)
              user_vectors[write_offset[3:2]] <= (user_vectors[write_offset[3:2]] & ~write_mask) | (write_data & VECTORS);
            if (in_channel_vectors)
              channel_vectors[write_offset[2]] <= (channel_vectors[write_offset[2]] & ~write_mask) | (write_data & VECTORS);
          end
        endcase
      end
    end
  end

  always_comb begin
    case (read_offset)
      xdma_regs_pkg::IRQ_IDENTIFIER:
      read_data = {xdma_regs_pkg::IDENTIFIER_MAGIC, xdma_regs_pkg::TARGET_IRQ, 16'h0006};
      xdma_regs_pkg::IRQ_USER_ENABLE: read_data = {16'd0, user_enable};
      xdma_regs_pkg::IRQ_CHANNEL_ENABLE: read_data = 32'(channel_enable);
      xdma_regs_pkg::IRQ_USER_REQUEST: read_data = {16'd0, user_request};
      xdma_regs_pkg::IRQ_CHANNEL_REQUEST: read_data = 32'(channel_request);
      xdma_regs_pkg::IRQ_USER_PENDING: read_data = {16'd0, user_source};
      xdma_regs_pkg::IRQ_CHANNEL_PENDING: read_data = 32'(channel_source);
      default: begin
        read_data = '0;
        if (read_offset[7:4] == xdma_regs_pkg::IRQ_USER_VECTORS[7:4]) read_data = user_vectors[read_offset[3:2]];
        if (read_offset[7:3] == xdma_regs_pkg::IRQ_CHANNEL_VECTORS[7:3]) read_data = channel_vectors[read_offset[2]];
      end
    endcase
  end

  // The messages of each line.
  wire [8*24-1:0] vectors = {
    channel_vectors[1], channel_vectors[0], user_vectors[3], user_vectors[2], user_vectors[1], user_vectors[0]
  };
  logic [15:0] messages;
  integer s;
  always_comb begin
    messages = '0;
    for (s = 0; s < SOURCES; s = s + 1) if (rises[s] && !vectors[8*s+4]) messages[vectors[8*s+:4]] = 1'b1;
  end

  genvar line;
  generate
    for (line = 0; line < 16; line = line + 1) begin : g_line
      dma_irq_line #(
          .ACK_CYCLES(ACK_CYCLES)
      ) u_line (
          .clk,
          .rst_n,
          .message(messages[line]),
          .pulse(irq_req[line]),
          .ack(irq_ack[line])
      );
    end
  endgenerate

  wire unused = &{1'b0, vectors};
endmodule

`default_nettype wire
