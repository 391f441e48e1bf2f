`default_nettype none

`include "parameter_check.svh"

// A channel without its registers: descriptor fetch, the two halves of the mover with the buffer between them, and completion.
//
// A list ends with Stop, with an error, when Run falls, or with `cancel`. The channel then sends nothing new, waits for all
// responses, and clears itself. If Run falls, the descriptor being written is completed first.
module dma_channel #(
    // 1: H2C. 0: C2H.
    parameter bit TO_CARD = 1'b1,
    parameter int ADDR_W = 64,
    // Bits in a beat of payload. Those of descriptors have 512.
    parameter int DATA_W = 512,
    // Requests and bursts under way.
    parameter int READS = 64,
    parameter int WRITES = 32,
    // Beats per burst.
    parameter int BURST = 64,
    // Beats of payload in the buffer.
    parameter int BUFFER = 1024,
    // Descriptors per request, and beats of them in the buffer.
    parameter int FETCH = 64,
    parameter int FETCH_BEATS = 64,
    localparam int STRB_W = DATA_W / 8
) (
    input wire clk,
    input wire rst_n,

    // From the registers.
    input  wire               start,
    input  wire  [ADDR_W-1:0] first,
    input  wire  [       5:0] first_adjacent,
    input  wire               run,
    input  wire  [      23:0] logged,
    input  wire               fixed,
    input  wire               write_back_on,
    input  wire  [ADDR_W-1:0] write_back,
    input  wire               errors,
    input  wire               permitted,
    input  wire  [       9:0] allowance,
    input  wire  [       1:0] size,
    input  wire               cancel,
    // The ports that the payload is read from and written to are dead.
    input  wire               read_dead,
    input  wire               write_dead,
    // To the registers.
    output logic [       6:0] requested,
    output logic [      31:0] count,
    output logic [      23:0] raised,
    output logic              running,
    output logic              busy,
    // A descriptor with Stop was completed.
    output logic              finished,
    // A beat of payload was written.
    output logic              moved,

    // Descriptors, from host memory; always accepted.
    output logic [ADDR_W-1:0] f_araddr,
    output logic [       7:0] f_arlen,
    output logic              f_arvalid,
    input  wire               f_arready,
    input  wire               f_rvalid,
    // Payload. The data is shared with the descriptors if both are in host memory.
    output logic [ADDR_W-1:0] d_araddr,
    output logic [       7:0] d_arlen,
    output logic              d_arfixed,
    output logic              d_arvalid,
    input  wire               d_arready,
    input  wire               d_rvalid,
    output logic              d_rready,
    input  wire  [     511:0] f_rdata,
    input  wire  [       1:0] f_rresp,
    input  wire               f_rlast,
    input  wire  [DATA_W-1:0] d_rdata,
    input  wire  [       1:0] d_rresp,
    input  wire               d_rlast,

    output logic [ADDR_W-1:0] d_awaddr,
    output logic [       7:0] d_awlen,
    output logic              d_awfixed,
    output logic              d_awvalid,
    input  wire               d_awready,
    output logic [DATA_W-1:0] d_wdata,
    output logic [STRB_W-1:0] d_wstrb,
    output logic              d_wvalid,
    input  wire               d_wready,
    input  wire  [       1:0] d_bresp,
    input  wire               d_bvalid,

    // The write-back, to host memory: one beat.
    output logic [ADDR_W-1:0] b_awaddr,
    output logic              b_awvalid,
    input  wire               b_awready,
    output logic [DATA_W-1:0] b_wdata,
    output logic [STRB_W-1:0] b_wstrb,
    output logic              b_wvalid,
    input  wire               b_wready,
    input  wire               b_bvalid
);
  `PARAMETER_CHECK(dma_channel_BUFFER, BUFFER >= 2 * BURST, "dma_channel: BUFFER must be at least twice BURST")

  localparam int S = $clog2(STRB_W);
  localparam int LEN_W = dma_pkg::LEN_W;
  localparam int TAG_W = 4;

  // Stopping: Run fell. Draining: the list ended.
  logic stopping, draining;
  logic fetch_quiet, fetch_empty, read_quiet, write_quiet, pending, failed, poisoned;
  logic queue_empty;
  wire payload_quiet = read_quiet && write_quiet && queue_empty;
  wire clear = draining && fetch_quiet && read_quiet && write_quiet && !pending;
  wire mover_rst_n = rst_n && !clear;
  // A read failed, and everything before it was written.
  logic write_starved, d_wlast;
  wire read_failed = poisoned && write_starved && !draining;
  wire ends = failed || finished || read_failed || cancel || (stopping && write_quiet);

  logic clean;  // no error
  logic [23:0] complete_raised, read_raised;
  assign raised = complete_raised | (read_failed ? read_raised : '0)
      | (24'(clear && stopping && clean) << xdma_regs_pkg::CHANNEL_STATUS_IDLE_STOPPED);
  assign busy = running && (stopping || draining || permitted || !fetch_quiet || !fetch_empty || !payload_quiet || pending);

  always_ff @(posedge clk) begin
    if (!rst_n || clear) begin
      {running, stopping, draining} <= '0;
      clean <= 1'b1;
    end else begin
      if (start) running <= 1'b1;
      if (running && !run) stopping <= 1'b1;
      if (running && ends) draining <= 1'b1;
      if (failed || read_failed) clean <= 1'b0;
    end
  end

  // Descriptors.
  logic [ADDR_W-1:0] source, destination;
  logic [LEN_W-1:0] length;
  logic stop, completed, bad, fetch_failed, descriptor_valid, descriptor_ready;
  dma_fetch #(
      .ADDR_W(ADDR_W),
      .FETCH (FETCH),
      .BEATS (FETCH_BEATS)
  ) u_fetch (
      .clk,
      .rst_n,
      .start,
      .first,
      .first_adjacent,
      .permitted,
      .allowance,
      .requested,
      .halt(draining || stopping),
      .quiet(fetch_quiet),
      .empty(fetch_empty),
      .araddr(f_araddr),
      .arlen(f_arlen),
      .arvalid(f_arvalid),
      .arready(f_arready),
      .rdata(f_rdata),
      .rresp(f_rresp),
      .rlast(f_rlast),
      .rvalid(f_rvalid),
      .m_source(source),
      .m_destination(destination),
      .m_length(length),
      .m_stop(stop),
      .m_completed(completed),
      .m_bad(bad),
      .m_failed(fetch_failed),
      .m_valid(descriptor_valid),
      .m_ready(descriptor_ready)
  );

  // With a fixed address, everything must be aligned to the data path (PG195, "Alignment").
  // Otherwise the address advances.
  wire unaligned = source[S-1:0] != '0 || destination[S-1:0] != '0 || length[S-1:0] != '0;
  wire misaligned = fixed && unaligned && logged[xdma_regs_pkg::CHANNEL_STATUS_ALIGN_MISMATCH];
  wire stays = fixed && !unaligned;
  logic [1:0] fault;
  always_comb begin
    if (fetch_failed) fault = dma_pkg::FETCH_FAILED;
    else if (bad) fault = dma_pkg::BAD_MAGIC;
    else fault = misaligned ? dma_pkg::MISALIGNED : dma_pkg::NO_FAULT;
  end
  wire nothing = length == '0 || fault != dma_pkg::NO_FAULT;

  // A descriptor is passed to both halves at the same time.
  logic queue_ready, read_ready;
  wire read_valid = descriptor_valid && queue_ready && !nothing;
  assign descriptor_ready = queue_ready && (nothing || read_ready);

  logic [ADDR_W-1:0] next_destination;
  logic [LEN_W-1:0] next_length;
  logic next_fixed, next_nothing, next_valid, next_ready;
  logic [TAG_W-1:0] next_tag;
  logic [$clog2(READS+1)-1:0] queued;
  sfifo #(
      .W(ADDR_W + LEN_W + 2 + TAG_W),
      .D(READS)
  ) u_queue (
      .clk,
      .rst_n(mover_rst_n),
      .flush(1'b0),
      .s_data({destination, length, stays && TO_CARD, nothing, fault, completed, stop}),
      .s_valid(descriptor_valid && descriptor_ready),
      .s_ready(queue_ready),
      .m_data({next_destination, next_length, next_fixed, next_nothing, next_tag}),
      .m_valid(next_valid),
      .m_ready(next_ready && !stopping),
      .level(queued)
  );
  assign queue_empty = queued == '0;

  logic [DATA_W-1:0] aligned, data;
  logic [1:0] aligned_resp;
  logic aligned_valid, data_valid, data_ready, always_room;
  logic [$clog2(BUFFER+1)-1:0] buffered;
  dma_read #(
      .DATA_W(DATA_W),
      .ADDR_W(ADDR_W),
      .LEN_W (LEN_W),
      .READS (READS),
      .BUFFER(BUFFER)
  ) u_read (
      .clk,
      .rst_n(mover_rst_n),
      .size,
      .halt(draining),
      .dead(read_dead),
      .quiet(read_quiet),
      .source,
      .destination(destination[S-1:0]),
      .length,
      .fixed(stays && !TO_CARD),
      .valid(read_valid),
      .ready(read_ready),
      .araddr(d_araddr),
      .arlen(d_arlen),
      .arfixed(d_arfixed),
      .arvalid(d_arvalid),
      .arready(d_arready),
      .rdata(d_rdata),
      .rresp(d_rresp),
      .rlast(d_rlast),
      .rvalid(d_rvalid),
      .rready(d_rready),
      .m_data(aligned),
      .m_resp(aligned_resp),
      .m_valid(aligned_valid),
      .released(data_valid && data_ready)
  );

  // A beat with an error that is logged, and all beats after it, are not written.
  wire slave_error = !TO_CARD && aligned_resp == msm_pkg::SLVERR;
  localparam int ERROR_0 = xdma_regs_pkg::CHANNEL_STATUS_READ_ERROR_0;
  localparam int ERROR_1 = xdma_regs_pkg::CHANNEL_STATUS_READ_ERROR_1;
  wire poisons = aligned_valid && aligned_resp[1] && (slave_error ? logged[ERROR_1] : logged[ERROR_0]);
  wire good = aligned_valid && !poisons && !poisoned;
  always_ff @(posedge clk) begin
    if (poisons && !poisoned) read_raised <= 24'd1 << (slave_error ? ERROR_1 : ERROR_0);
    if (!mover_rst_n) poisoned <= 1'b0;
    else if (poisons) poisoned <= 1'b1;
  end

  sfifo #(
      .W(DATA_W),
      .D(BUFFER)
  ) u_buffer (
      .clk,
      .rst_n(mover_rst_n),
      .flush(1'b0),
      .s_data(aligned),
      .s_valid(aligned_valid),
      .s_ready(always_room),
      .m_data(data),
      .m_valid(data_valid),
      .m_ready(data_ready),
      .level(buffered)
  );

  logic outcome_last, outcome_valid;
  logic [TAG_W-1:0] outcome_tag;
  logic [1:0] outcome_resp;
  dma_write #(
      .DATA_W(DATA_W),
      .ADDR_W(ADDR_W),
      .LEN_W (LEN_W),
      .BURST (BURST),
      .WRITES(WRITES),
      .BUFFER(BUFFER),
      .TAG_W (TAG_W)
  ) u_write (
      .clk,
      .rst_n(mover_rst_n),
      .halt(draining),
      .dead(write_dead),
      .quiet(write_quiet),
      .starved(write_starved),
      .destination(next_destination),
      .length(next_length),
      .fixed(next_fixed),
      .nothing(next_nothing),
      .tag(next_tag),
      .valid(next_valid && !stopping),
      .ready(next_ready),
      .granted(good),
      .data,
      .data_valid,
      .data_ready,
      .awaddr(d_awaddr),
      .awlen(d_awlen),
      .awfixed(d_awfixed),
      .awvalid(d_awvalid),
      .awready(d_awready),
      .wdata(d_wdata),
      .wstrb(d_wstrb),
      .wlast(d_wlast),
      .wvalid(d_wvalid),
      .wready(d_wready),
      .bresp(d_bresp),
      .bvalid(d_bvalid),
      .outcome_last,
      .outcome_tag,
      .outcome_resp,
      .outcome_valid,
      .outcome_ready(1'b1)
  );
  assign moved = data_valid && data_ready;

  dma_complete #(
      .TO_CARD(TO_CARD),
      .DATA_W (DATA_W),
      .ADDR_W (ADDR_W)
  ) u_complete (
      .clk,
      .rst_n,
      .start,
      .logged,
      .write_back_on,
      .write_back,
      .errors,
      .halt(draining),
      .outcome_last,
      .outcome_stop(outcome_tag[0]),
      .outcome_completed(outcome_tag[1]),
      .outcome_fault(outcome_tag[3:2]),
      .outcome_resp,
      .outcome_valid,
      .count,
      .raised(complete_raised),
      .finished,
      .failed,
      .pending,
      .awaddr(b_awaddr),
      .awvalid(b_awvalid),
      .awready(b_awready),
      .wdata(b_wdata),
      .wstrb(b_wstrb),
      .wvalid(b_wvalid),
      .wready(b_wready),
      .bvalid(b_bvalid)
  );

  wire unused = &{1'b0, always_room, buffered, d_wlast};
endmodule

`default_nettype wire
