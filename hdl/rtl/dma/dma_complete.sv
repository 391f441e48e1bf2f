`default_nettype none

`include "parameter_check.svh"

// The completion unit of a channel. It counts descriptors whose writes were all answered, and writes the count back to host memory.
//
// The order is: payload, count, write-back, status and with it the interrupt, each after the response to the one before. While a
// write-back is under way, later ones are combined.
module dma_complete #(
    // 1: H2C. 0: C2H.
    parameter bit TO_CARD = 1'b1,
    parameter int DATA_W = 512,
    parameter int ADDR_W = 64,
    localparam int STRB_W = DATA_W / 8,
    localparam int S = $clog2(STRB_W)
) (
    input wire clk,
    input wire rst_n,

    // A new list starts.
    input  wire              start,
    // Status bits that are logged, and that stop the channel if they are errors.
    input  wire [      23:0] logged,
    input  wire              write_back_on,
    input  wire [ADDR_W-1:0] write_back,
    // An error was logged since the start.
    input  wire              errors,
    // Outcomes are ignored.
    input  wire              halt,

    input wire       outcome_last,
    input wire       outcome_stop,
    input wire       outcome_completed,
    input wire [1:0] outcome_fault,
    input wire [1:0] outcome_resp,
    input wire       outcome_valid,

    output logic [31:0] count,
    // Status bits that become set.
    output logic [23:0] raised,
    // The list ended, with Stop or with an error.
    output logic        finished,
    output logic        failed,
    // A write-back is wanted or under way.
    output logic        pending,

    output logic [ADDR_W-1:0] awaddr,
    output logic              awvalid,
    input  wire               awready,
    output logic [DATA_W-1:0] wdata,
    output logic [STRB_W-1:0] wstrb,
    output logic              wvalid,
    input  wire               wready,
    input  wire               bvalid
);
  `PARAMETER_CHECK(dma_complete_DATA_W, DATA_W >= 64 && (DATA_W & (DATA_W - 1)) == 0,
                   "dma_complete: DATA_W must be a power of two of at least 64")
  `PARAMETER_CHECK(dma_complete_ADDR_W, ADDR_W >= 1, "dma_complete: ADDR_W must be at least 1")

  localparam logic [23:0] MAGIC_STOPPED = 24'd1 << xdma_regs_pkg::CHANNEL_STATUS_MAGIC_STOPPED;
  localparam logic [23:0] FETCH_REFUSED =
      MAGIC_STOPPED | 24'd1 << xdma_regs_pkg::CHANNEL_STATUS_DESC_UNSUPPORTED_REQUEST;
  localparam logic [23:0] ALIGN_MISMATCH = 24'd1 << xdma_regs_pkg::CHANNEL_STATUS_ALIGN_MISMATCH;
  // A C2H channel has no bits for writes, because PCIe writes are posted. A bridge does report them.
  localparam logic [23:0] DECODE_ERROR = 24'd1 << (TO_CARD ?
      xdma_regs_pkg::CHANNEL_STATUS_WRITE_DECODE_ERROR : xdma_regs_pkg::CHANNEL_STATUS_READ_ERROR_0);
  localparam logic [23:0] SLAVE_ERROR = 24'd1 << (TO_CARD ?
      xdma_regs_pkg::CHANNEL_STATUS_WRITE_SLAVE_ERROR : xdma_regs_pkg::CHANNEL_STATUS_READ_ERROR_1);

  wire take = outcome_valid && !halt;
  logic [23:0] error;
  always_comb begin
    case (outcome_fault)
      dma_pkg::BAD_MAGIC: error = MAGIC_STOPPED;
      dma_pkg::FETCH_FAILED: error = FETCH_REFUSED;
      dma_pkg::MISALIGNED: error = ALIGN_MISMATCH;
      default: error = outcome_resp == msm_pkg::DECERR ? DECODE_ERROR : outcome_resp == msm_pkg::SLVERR ? SLAVE_ERROR : '0;
    endcase
  end

  // A fault of the list always stops the channel, an error response only if it is logged.
  assign failed = take && (outcome_fault != dma_pkg::NO_FAULT || (error & logged) != '0);
  wire done = take && outcome_last && !failed;
  assign finished = done && outcome_stop;

  logic [23:0] events;
  always_comb begin
    events = '0;
    events[xdma_regs_pkg::CHANNEL_STATUS_DESCRIPTOR_STOPPED] = done && outcome_stop;
    events[xdma_regs_pkg::CHANNEL_STATUS_DESCRIPTOR_COMPLETED] = done && outcome_completed;
  end
  wire written_back = done && outcome_completed && write_back_on;

  // Status bits that wait for the next write-back, and for the one that is under way.
  logic [23:0] next_events, sent_events;
  logic wanted, busy;
  wire issue = wanted && !busy;
  assign pending = wanted || busy;
  assign raised = (failed ? error : '0) | (written_back ? '0 : events) | (bvalid ? sent_events : '0);

  logic [31:0] word;
  assign wdata = {(DATA_W / 32) {word}};
  assign wstrb = STRB_W'(4'hf) << {awaddr[S-1:2], 2'b00};

  always_ff @(posedge clk) begin
    if (issue) begin
      awaddr <= {write_back[ADDR_W-1:2], 2'b00};
      word <= {errors, 7'd0, count[23:0]};
      sent_events <= next_events;
    end
    if (!rst_n) begin
      count <= '0;
      {wanted, busy, awvalid, wvalid} <= '0;
      next_events <= '0;
    end else begin
      if (start) count <= '0;
      else if (done) count <= count + 1'b1;
      if (written_back) wanted <= 1'b1;
      else if (issue) wanted <= 1'b0;
      next_events <= (issue ? '0 : next_events) | (written_back ? events : '0);
      if (issue) {busy, awvalid, wvalid} <= 3'b111;
      else begin
        if (bvalid) busy <= 1'b0;
        if (awready) awvalid <= 1'b0;
        if (wready) wvalid <= 1'b0;
      end
    end
  end

  wire unused = &{1'b0, write_back[1:0]};
endmodule

`default_nettype wire
