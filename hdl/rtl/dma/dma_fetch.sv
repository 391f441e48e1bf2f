`default_nettype none

`include "parameter_check.svh"

// The descriptor fetch of a channel. It reads adjacent descriptors in one request, and ahead of their use as far as the buffer and
// the credits permit. The next request continues from the last descriptor fetched. No request crosses 4 KiB. Its size is not
// limited to that of payload requests: a bridge splits bursts.
//
// After a descriptor with Stop, one without the magic number, or a failed request, nothing follows.
module dma_fetch #(
    parameter int ADDR_W = 64,
    // Descriptors per request. A block has at most 64.
    parameter int FETCH = 64,
    // Beats of two descriptors in the buffer. With room for two requests, the second is under way while the first is used.
    parameter int BEATS = 64,
    localparam int DATA_W = 512,
    localparam int LEN_W = 28
) (
    input wire clk,
    input wire rst_n,

    // Starts with the descriptor at `first`, which `first_adjacent` more follow. Only while `quiet`.
    input  wire               start,
    input  wire  [ADDR_W-1:0] first,
    input  wire  [       5:0] first_adjacent,
    // Software permits requests, for at most `allowance` descriptors.
    input  wire               permitted,
    input  wire  [       9:0] allowance,
    // The number of descriptors requested in this cycle.
    output logic [       6:0] requested,
    // No further request is sent, and the buffer is emptied.
    input  wire               halt,
    // No request is under way.
    output logic              quiet,
    output logic              empty,

    output logic [ADDR_W-1:0] araddr,
    output logic [       7:0] arlen,
    output logic              arvalid,
    input  wire               arready,
    input  wire  [DATA_W-1:0] rdata,
    input  wire  [       1:0] rresp,
    input  wire               rlast,
    input  wire               rvalid,

    output logic [ADDR_W-1:0] m_source,
    output logic [ADDR_W-1:0] m_destination,
    output logic [ LEN_W-1:0] m_length,
    output logic              m_stop,
    output logic              m_completed,
    // The magic number is missing, or the request failed.
    output logic              m_bad,
    output logic              m_failed,
    output logic              m_valid,
    input  wire               m_ready
);
  `PARAMETER_CHECK(dma_fetch_ADDR_W, ADDR_W >= 32 && ADDR_W <= 64, "dma_fetch: ADDR_W must be 32 to 64")
  `PARAMETER_CHECK(dma_fetch_FETCH, FETCH >= 1 && FETCH <= 64, "dma_fetch: FETCH must be 1 to 64")
  `PARAMETER_CHECK(dma_fetch_BEATS, BEATS >= FETCH / 2 + 1, "dma_fetch: BEATS must be at least FETCH / 2 + 1")

  localparam int BW = $clog2(BEATS + 1);
  // Words of a descriptor.
  localparam int CONTROL = 0, LENGTH = 32, SOURCE = 64, DESTINATION = 128, NEXT = 192;

  // The next descriptor to request, in units of descriptors, and the number that follow it.
  logic [ADDR_W-6:0] next;
  logic [5:0] adjacent;
  logic running, waiting;  // not ended; a request is under way
  logic [BW-1:0] free;  // beats of the buffer

  // The rest of the block, in this page.
  wire [6:0] in_block = {1'b0, adjacent} + 1'b1;
  wire [7:0] to_end = 8'd128 - {1'b0, next[6:0]};
  wire [6:0] in_page = (8'(in_block) > to_end) ? to_end[6:0] : in_block;
  wire [6:0] at_most = (in_page > 7'(FETCH)) ? 7'(FETCH) : in_page;
  wire [6:0] count = (10'(at_most) > allowance) ? allowance[6:0] : at_most;
  wire [6:0] last_lane = {6'd0, next[0]} + count - 1'b1;
  wire [5:0] beats = last_lane[6:1] + 1'b1;

  logic request;
  logic [6:0] left;  // descriptors of the request that have not arrived
  logic upper;  // the next one is in the upper half of its beat
  wire send = running && !waiting && !request && permitted && !halt && !start && free >= BW'(beats);
  wire take = rvalid && waiting;
  wire sent = arvalid && arready;

  // The descriptors of a beat that are part of the request. Those after the end of the list are dropped.
  wire lower_here = !upper;
  wire upper_here = upper || left > 7'd1;
  wire [255:0] lower_half = rdata[255:0];
  wire [255:0] upper_half = rdata[511:256];
  wire failed = rresp[1];
  wire lower_bad = lower_half[CONTROL+16+:16] != xdma_regs_pkg::DESCRIPTOR_MAGIC;
  wire upper_bad = upper_half[CONTROL+16+:16] != xdma_regs_pkg::DESCRIPTOR_MAGIC;
  wire lower_ends = lower_here && (failed || lower_bad || lower_half[CONTROL]);
  wire upper_used = upper_here && !lower_ends;
  wire upper_ends = upper_used && (failed || upper_bad || upper_half[CONTROL]);
  wire [255:0] last_half = upper_used ? upper_half : lower_half;
  wire push = take && running && !halt;

  assign requested = send ? count : '0;
  assign arvalid = request;
  assign quiet = !request && !waiting;

  always_ff @(posedge clk) begin
    if (send) begin
      araddr <= {next, 5'd0};
      arlen  <= 8'(beats) - 1'b1;
    end
    if (start) {next, adjacent} <= {first[ADDR_W-1:5], first_adjacent};
    else if (push) {next, adjacent} <= {last_half[NEXT+5+:ADDR_W-5], last_half[CONTROL+8+:6]};
    if (send) {left, upper} <= {count, next[0]};
    else if (take) {left, upper} <= {left - 7'(lower_here) - 7'(upper_here), 1'b0};
    if (!rst_n) begin
      request <= 1'b0;
      waiting <= 1'b0;
      running <= 1'b0;
    end else begin
      if (send) request <= 1'b1;
      else if (sent) request <= 1'b0;
      if (sent) waiting <= 1'b1;
      else if (take && rlast) waiting <= 1'b0;
      if (start) running <= 1'b1;
      else if (halt || (push && (lower_ends || upper_ends))) running <= 1'b0;
    end
  end

  // The buffer: beats, and which of their halves are used.
  logic [DATA_W-1:0] beat;
  logic has_lower, has_upper, beat_failed, beat_valid, beat_taken, always_room;
  logic [BW-1:0] level;
  sfifo #(
      .W(DATA_W + 3),
      .D(BEATS)
  ) u_buffer (
      .clk,
      .rst_n,
      .flush(halt),
      .s_data({rdata, lower_here, upper_used, failed}),
      .s_valid(push),
      .s_ready(always_room),
      .m_data({beat, has_lower, has_upper, beat_failed}),
      .m_valid(beat_valid),
      .m_ready(beat_taken),
      .level
  );

  // Room is reserved by requests, and returned by beats that leave or were requested but not stored.
  wire returned = beat_valid && beat_taken;
  wire dropped = take && !push;
  always_ff @(posedge clk) begin
    if (!rst_n || start) free <= BW'(BEATS);
    else free <= free - (send ? BW'(beats) : '0) + BW'(returned) + BW'(dropped);
  end

  logic at_upper;  // the lower half was taken
  wire from_upper = at_upper || !has_lower;
  wire [255:0] half = from_upper ? beat[511:256] : beat[255:0];
  assign m_valid = beat_valid && !halt;
  assign m_stop = half[CONTROL];
  assign m_completed = half[CONTROL+1];
  assign m_bad = half[CONTROL+16+:16] != xdma_regs_pkg::DESCRIPTOR_MAGIC;
  assign m_failed = beat_failed;
  assign m_length = half[LENGTH+:LEN_W];
  assign m_source = half[SOURCE+:ADDR_W];
  assign m_destination = half[DESTINATION+:ADDR_W];
  assign beat_taken = m_valid && m_ready && (from_upper || !has_upper);
  assign empty = level == '0;

  always_ff @(posedge clk) begin
    if (!rst_n || halt || beat_taken) at_upper <= 1'b0;
    else if (m_valid && m_ready) at_upper <= 1'b1;
  end

`ifdef FORMAL
  // The buffer has room for every beat that arrives.
  logic f_past = 1'b0;
  always_ff @(posedge clk) begin
    f_past <= 1'b1;
    if (f_past && rst_n && push) assert (always_room);
  end
`endif

  wire unused = &{1'b0, first[4:0], last_lane[0], always_room, half, last_half, rresp[0]};
endmodule

`default_nettype wire
