`default_nettype none

`include "parameter_check.svh"

// The registers of a channel (PG195, "H2C Channel Registers", "C2H Channel Registers" and "SGDMA Registers").
module dma_channel_regs #(
    // 1: H2C. 0: C2H.
    parameter bit TO_CARD = 1'b1,
    parameter int INDEX   = 0
) (
    input wire clk,
    input wire rst_n,

    input  wire         write_channel,
    input  wire         write_sgdma,
    input  wire  [ 7:0] write_offset,
    // The bits that are written. In the others, registers keep their value, and `write_data` is zero.
    input  wire  [31:0] write_mask,
    input  wire  [31:0] write_data,
    input  wire         read_channel,
    input  wire  [ 7:0] read_offset,
    output logic [31:0] channel_data,
    output logic [31:0] sgdma_data,
    input  wire         halted,
    input  wire         credit_mode,

    output logic        start,
    output logic [63:0] first,
    output logic [ 5:0] first_adjacent,
    output logic        run,
    output logic [23:0] logged,
    output logic        fixed,
    output logic        write_back_on,
    output logic [63:0] write_back,
    output logic        errors,
    output logic        permitted,
    output logic [ 9:0] allowance,
    input  wire  [ 6:0] requested,
    input  wire  [31:0] count,
    input  wire  [23:0] raised,
    input  wire         running,
    input  wire         busy,
    input  wire         finished,
    input  wire         moved,
    output logic        irq
);
  `PARAMETER_CHECK(dma_channel_regs_INDEX, INDEX >= 0 && INDEX <= 3, "dma_channel_regs: INDEX must be 0 to 3")

  localparam logic [31:0] CONTROL_MASK = xdma_regs_pkg::CHANNEL_CONTROL_MASK;
  // Status bits have the position of the control bit that logs them. All but BUSY stay set until they are cleared.
  localparam logic [23:0] STICKY = CONTROL_MASK[23:0] & ~24'd1;
  localparam int READ_ERROR = xdma_regs_pkg::CHANNEL_STATUS_READ_ERROR_0;
  localparam int WRITE_ERROR = xdma_regs_pkg::CHANNEL_STATUS_WRITE_DECODE_ERROR;
  localparam int FETCH_ERROR = xdma_regs_pkg::CHANNEL_STATUS_DESC_UNSUPPORTED_REQUEST;
  localparam int LIST_ERROR = xdma_regs_pkg::CHANNEL_STATUS_ALIGN_MISMATCH;
  localparam logic [23:0] TRANSFER_ERRORS =
      TO_CARD ? 24'h1f << READ_ERROR | 24'h3 << WRITE_ERROR : 24'h3 << READ_ERROR;
  localparam logic [23:0] ERRORS = TRANSFER_ERRORS | 24'h1f << FETCH_ERROR | 24'h7 << LIST_ERROR;
  localparam logic [3:0] CHANNEL_TARGET = TO_CARD ? xdma_regs_pkg::TARGET_H2C : xdma_regs_pkg::TARGET_C2H;
  localparam logic [3:0] SGDMA_TARGET = TO_CARD ? xdma_regs_pkg::TARGET_H2C_SGDMA : xdma_regs_pkg::TARGET_C2H_SGDMA;
  localparam logic [15:0] VERSION = {4'd0, 4'(INDEX), 8'h06};

  // Control.
  logic [31:0] control, next_control;
  always_comb begin
    next_control = control;
    if (write_channel) begin
      case (write_offset)
        xdma_regs_pkg::CHANNEL_CONTROL: next_control = (control & ~write_mask) | (write_data & CONTROL_MASK);
        xdma_regs_pkg::CHANNEL_CONTROL_W1S: next_control = control | (write_data & CONTROL_MASK);
        xdma_regs_pkg::CHANNEL_CONTROL_W1C: next_control = control & ~write_data;
        default: ;
      endcase
    end
  end
  wire rises = next_control[xdma_regs_pkg::CHANNEL_CONTROL_RUN] && !run;
  wire falls = !next_control[xdma_regs_pkg::CHANNEL_CONTROL_RUN] && run;

  assign start = rises && !running;
  assign run = control[xdma_regs_pkg::CHANNEL_CONTROL_RUN];
  assign logged = control[23:0] & STICKY;
  assign fixed = control[xdma_regs_pkg::CHANNEL_CONTROL_NON_INCREMENTING];
  assign write_back_on = control[xdma_regs_pkg::CHANNEL_CONTROL_POLL_WRITE_BACK];

  // Status and interrupt.
  logic [23:0] status, irq_enable;
  wire clears_all = read_channel && read_offset == xdma_regs_pkg::CHANNEL_STATUS_RC;
  wire clears_some = write_channel && write_offset == xdma_regs_pkg::CHANNEL_STATUS;
  wire [23:0] kept = clears_all ? '0 : clears_some ? status & ~write_data[23:0] : status;
  wire [31:0] status_word = {8'd0, status[23:1], busy};
  assign errors = (status & ERRORS) != '0;
  assign irq = (status & irq_enable) != '0;

  // Credits. Those written without credit mode are lost.
  logic was_credit_mode;
  logic [9:0] credits;
  wire adds = write_sgdma && write_offset == xdma_regs_pkg::SGDMA_CREDITS && credit_mode;
  wire [9:0] spent = credit_mode ? credits - 10'(requested) : credits;
  wire [10:0] sum = 11'(spent) + (adds ? 11'(write_data[9:0]) : '0);
  assign permitted = running && !halted && (!credit_mode || credits != '0);
  assign allowance = credit_mode ? credits : '1;

  always_ff @(posedge clk) begin
    was_credit_mode <= credit_mode;
    if (!rst_n) begin
      control <= '0;
      status <= '0;
      irq_enable <= '0;
      credits <= '0;
      {first, first_adjacent, write_back} <= '0;
    end else begin
      control <= next_control;
      status  <= start ? '0 : kept | (raised & logged);
      credits <= (falls || credit_mode != was_credit_mode) ? '0 : sum[10] ? '1 : sum[9:0];
      if (write_channel) begin
        case (write_offset)
          xdma_regs_pkg::CHANNEL_WRITE_BACK_LO: write_back[31:0] <= (write_back[31:0] & ~write_mask) | write_data;
          xdma_regs_pkg::CHANNEL_WRITE_BACK_HI: write_back[63:32] <= (write_back[63:32] & ~write_mask) | write_data;
          xdma_regs_pkg::CHANNEL_IRQ_ENABLE: irq_enable <= (irq_enable & ~write_mask[23:0]) | (write_data[23:0] & STICKY);
          xdma_regs_pkg::CHANNEL_IRQ_ENABLE_W1S: irq_enable <= irq_enable | (write_data[23:0] & STICKY);
          xdma_regs_pkg::CHANNEL_IRQ_ENABLE_W1C: irq_enable <= irq_enable & ~write_data[23:0];
          default: ;
        endcase
      end
      if (write_sgdma) begin
        case (write_offset)
          xdma_regs_pkg::SGDMA_DESCRIPTOR_LO: first[31:0] <= (first[31:0] & ~write_mask) | write_data;
          xdma_regs_pkg::SGDMA_DESCRIPTOR_HI: first[63:32] <= (first[63:32] & ~write_mask) | write_data;
          xdma_regs_pkg::SGDMA_DESCRIPTOR_ADJACENT: if (write_mask[0]) first_adjacent <= write_data[5:0];
          default: ;
        endcase
      end
    end
  end

  logic [31:0] perf_data;
  dma_perf u_perf (
      .clk,
      .rst_n,
      .write(write_channel && write_offset == xdma_regs_pkg::CHANNEL_PERF_CONTROL && write_mask[0]),
      .write_data(write_data[2:0]),
      .read_offset,
      .read_data(perf_data),
      .start,
      .running,
      .finished,
      .moved
  );

  // Addresses with a fixed card address, and lengths, are multiples of the data path.
  wire [15:0] alignments = fixed ? 16'h4040 : 16'h0101;
  always_comb begin
    case (read_offset)
      xdma_regs_pkg::CHANNEL_IDENTIFIER: channel_data = {xdma_regs_pkg::IDENTIFIER_MAGIC, CHANNEL_TARGET, VERSION};
      xdma_regs_pkg::CHANNEL_CONTROL: channel_data = control;
      xdma_regs_pkg::CHANNEL_STATUS, xdma_regs_pkg::CHANNEL_STATUS_RC: channel_data = status_word;
      xdma_regs_pkg::CHANNEL_COMPLETED_COUNT: channel_data = count;
      xdma_regs_pkg::CHANNEL_ALIGNMENTS: channel_data = {8'd0, alignments, 8'd64};
      xdma_regs_pkg::CHANNEL_WRITE_BACK_LO: channel_data = write_back[31:0];
      xdma_regs_pkg::CHANNEL_WRITE_BACK_HI: channel_data = write_back[63:32];
      xdma_regs_pkg::CHANNEL_IRQ_ENABLE: channel_data = {8'd0, irq_enable};
      default: channel_data = perf_data;
    endcase
    case (read_offset)
      xdma_regs_pkg::SGDMA_IDENTIFIER: sgdma_data = {xdma_regs_pkg::IDENTIFIER_MAGIC, SGDMA_TARGET, VERSION};
      xdma_regs_pkg::SGDMA_DESCRIPTOR_LO: sgdma_data = first[31:0];
      xdma_regs_pkg::SGDMA_DESCRIPTOR_HI: sgdma_data = first[63:32];
      xdma_regs_pkg::SGDMA_DESCRIPTOR_ADJACENT: sgdma_data = {26'd0, first_adjacent};
      xdma_regs_pkg::SGDMA_CREDITS: sgdma_data = {22'd0, credits};
      default: sgdma_data = '0;
    endcase
  end
endmodule

`default_nettype wire
