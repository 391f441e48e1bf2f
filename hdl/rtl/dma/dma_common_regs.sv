`default_nettype none

`include "parameter_check.svh"

// The registers shared by all channels (PG195, "Config Block Registers" and "SGDMA Common Registers").
module dma_common_regs #(
    // Channels of each direction.
    parameter int H2C = 1,
    parameter int C2H = 1
) (
    input wire clk,
    input wire rst_n,

    input  wire         write_config,
    input  wire         write_common,
    input  wire  [ 7:0] write_offset,
    // The bits that are written. In the others, registers keep their value, and `write_data` is zero.
    input  wire  [31:0] write_mask,
    input  wire  [31:0] write_data,
    input  wire  [ 7:0] read_offset,
    output logic [31:0] config_data,
    output logic [31:0] common_data,

    // Encoded as in DevCtl: 0 = 128 bytes, 1 = 256, 2 = 512.
    input  wire [1:0] max_payload,
    input  wire [2:0] max_read_request,
    // The size of read requests, limited by software and to 512 bytes.
    output logic [1:0] size,

    // The H2C channels first.
    output logic [H2C+C2H-1:0] halted,
    output logic [H2C+C2H-1:0] credit_mode
);
  `PARAMETER_CHECK(dma_common_regs_H2C, H2C >= 1 && H2C <= 4, "dma_common_regs: H2C must be 1 to 4")
  `PARAMETER_CHECK(dma_common_regs_C2H, C2H >= 1 && C2H <= 4, "dma_common_regs: C2H must be 1 to 4")

  localparam logic [2:0] UNLIMITED = 3'd5;
  localparam logic [31:0] SYSTEM_ID = 32'hff01;
  // A data path of 512 bits.
  localparam logic [31:0] DATA_WIDTH = 32'd3;
  localparam logic [31:0] EXISTING = {12'd0, 4'((1 << C2H) - 1), 12'd0, 4'((1 << H2C) - 1)};

  logic relaxed_ordering;
  logic [2:0] user_max_payload, user_max_read_request;
  logic [4:0] flush_timeout;
  logic [31:0] halt, credit;

  wire [2:0] allowed = (user_max_read_request < max_read_request) ? user_max_read_request : max_read_request;
  assign halted = {halt[16+:C2H], halt[0+:H2C]};
  assign credit_mode = {credit[16+:C2H], credit[0+:H2C]};

  always_ff @(posedge clk) begin
    size <= (allowed > 3'd2) ? 2'd2 : allowed[1:0];
    if (!rst_n) begin
      relaxed_ordering <= 1'b1;
      user_max_payload <= UNLIMITED;
      user_max_read_request <= UNLIMITED;
      flush_timeout <= '0;
      halt <= '0;
      credit <= '0;
    end else begin
      if (write_config && write_mask[0]) begin
        case (write_offset)
          xdma_regs_pkg::CONFIG_PCIE_CONTROL: relaxed_ordering <= write_data[0];
          xdma_regs_pkg::CONFIG_USER_MAX_PAYLOAD: user_max_payload <= write_data[2:0];
          xdma_regs_pkg::CONFIG_USER_MAX_READ_REQUEST: user_max_read_request <= write_data[2:0];
          xdma_regs_pkg::CONFIG_WRITE_FLUSH_TIMEOUT: flush_timeout <= write_data[4:0];
          default: ;
        endcase
      end
      if (write_common) begin
        case (write_offset)
          xdma_regs_pkg::COMMON_FETCH_HALT: halt <= (halt & ~write_mask) | (write_data & EXISTING);
          xdma_regs_pkg::COMMON_FETCH_HALT_W1S: halt <= halt | (write_data & EXISTING);
          xdma_regs_pkg::COMMON_FETCH_HALT_W1C: halt <= halt & ~write_data;
          xdma_regs_pkg::COMMON_CREDIT_ENABLE: credit <= (credit & ~write_mask) | (write_data & EXISTING);
          xdma_regs_pkg::COMMON_CREDIT_ENABLE_W1S: credit <= credit | (write_data & EXISTING);
          xdma_regs_pkg::COMMON_CREDIT_ENABLE_W1C: credit <= credit & ~write_data;
          default: ;
        endcase
      end
    end
  end

  localparam logic [11:0] MAGIC = xdma_regs_pkg::IDENTIFIER_MAGIC;
  always_comb begin
    case (read_offset)
      xdma_regs_pkg::CONFIG_IDENTIFIER: config_data = {MAGIC, xdma_regs_pkg::TARGET_CONFIG, 16'h0006};
      xdma_regs_pkg::CONFIG_MAX_PAYLOAD: config_data = {30'd0, max_payload};
      xdma_regs_pkg::CONFIG_MAX_READ_REQUEST: config_data = {29'd0, max_read_request};
      xdma_regs_pkg::CONFIG_SYSTEM_ID: config_data = SYSTEM_ID;
      xdma_regs_pkg::CONFIG_DATA_WIDTH: config_data = DATA_WIDTH;
      xdma_regs_pkg::CONFIG_PCIE_CONTROL: config_data = {31'd0, relaxed_ordering};
      xdma_regs_pkg::CONFIG_USER_MAX_PAYLOAD: config_data = {29'd0, user_max_payload};
      xdma_regs_pkg::CONFIG_USER_MAX_READ_REQUEST: config_data = {29'd0, user_max_read_request};
      xdma_regs_pkg::CONFIG_WRITE_FLUSH_TIMEOUT: config_data = {27'd0, flush_timeout};
      // Bus number, and whether MSI-X is on, are known to the shell alone.
      default: config_data = '0;
    endcase
    case (read_offset)
      xdma_regs_pkg::COMMON_IDENTIFIER: common_data = {MAGIC, xdma_regs_pkg::TARGET_COMMON, 16'h0006};
      xdma_regs_pkg::COMMON_FETCH_HALT: common_data = halt;
      xdma_regs_pkg::COMMON_CREDIT_ENABLE: common_data = credit;
      default: common_data = '0;
    endcase
  end
endmodule

`default_nettype wire
