`default_nettype none

`include "parameter_check.svh"

// The write half of a mover. Splits descriptors into bursts and writes the beats of the buffer, which are already in the lanes of
// their destination.
//
// A burst is sent only when the buffer has all its beats, so its data never waits for the source. Bursts end at multiples of
// BURST beats and therefore never cross 4 KiB. The outcome of each burst is reported in order, after its response.
module dma_write #(
    parameter int DATA_W = 512,
    parameter int ADDR_W = 64,
    parameter int LEN_W = 28,
    // Beats per burst.
    parameter int BURST = 64,
    // Bursts under way.
    parameter int WRITES = 32,
    // Beats in the buffer.
    parameter int BUFFER = 1024,
    // Width of the tag, which comes back with the outcome.
    parameter int TAG_W = 4,
    localparam int STRB_W = DATA_W / 8,
    localparam int S = $clog2(STRB_W)
) (
    input wire clk,
    input wire rst_n,

    // No further burst is sent. The current descriptor is dropped.
    input wire halt,
    // The port is dead: all bursts get error responses from here.
    input wire dead,
    // No descriptor is in progress and no outcome is left.
    output logic quiet,
    // The next burst waits for data, and no outcome is left.
    output logic starved,

    input  wire  [ADDR_W-1:0] destination,
    input  wire  [ LEN_W-1:0] length,
    input  wire               fixed,
    // There is nothing to write: only the outcome is wanted.
    input  wire               nothing,
    input  wire  [ TAG_W-1:0] tag,
    input  wire               valid,
    output logic              ready,

    // Another beat of the buffer may be written.
    input  wire               granted,
    input  wire  [DATA_W-1:0] data,
    input  wire               data_valid,
    output logic              data_ready,

    output logic [ADDR_W-1:0] awaddr,
    output logic [       7:0] awlen,
    output logic              awfixed,
    output logic              awvalid,
    input  wire               awready,
    output logic [DATA_W-1:0] wdata,
    output logic [STRB_W-1:0] wstrb,
    output logic              wlast,
    output logic              wvalid,
    input  wire               wready,
    // Always accepted.
    input  wire  [       1:0] bresp,
    input  wire               bvalid,

    output logic             outcome_last,   // of its descriptor
    output logic [TAG_W-1:0] outcome_tag,
    output logic [      1:0] outcome_resp,
    output logic             outcome_valid,
    input  wire              outcome_ready
);
  `PARAMETER_CHECK(dma_write_DATA_W, DATA_W >= 16 && (DATA_W & (DATA_W - 1)) == 0,
                   "dma_write: DATA_W must be a power of two of at least 16")
  `PARAMETER_CHECK(dma_write_BURST, BURST >= 1 && BURST <= 64 && (BURST & (BURST - 1)) == 0,
                   "dma_write: BURST must be a power of two, 1 to 64")
  `PARAMETER_CHECK(dma_write_WRITES, WRITES >= 1, "dma_write: WRITES must be at least 1")
  `PARAMETER_CHECK(dma_write_BUFFER, BUFFER >= BURST + 2, "dma_write: BUFFER must be at least BURST + 2")
  `PARAMETER_CHECK(dma_write_LEN_W, LEN_W >= $clog2(BURST) + S + 2 && LEN_W <= ADDR_W,
                   "dma_write: LEN_W must be log2(BURST * DATA_W/8) + 2 to ADDR_W")
  `PARAMETER_CHECK(dma_write_TAG_W, TAG_W >= 1, "dma_write: TAG_W must be at least 1")

  // A FIXED burst has at most 16 beats (AXI4).
  localparam int FIXED_BURST = (BURST < 16) ? BURST : 16;
  // Bytes of a burst and of the lanes in front of it: below 2^M.
  localparam int M = $clog2(BURST) + S + 1;
  localparam int BW = $clog2(BUFFER + 1);

  // The rest of the descriptor.
  logic [ADDR_W-1:0] addr;
  logic [LEN_W-1:0] left;
  logic [TAG_W-1:0] rest_tag;
  logic active, is_fixed, is_nothing;

  wire [M-1:0] limit = M'(BURST * STRB_W);
  wire [M-1:0] room = is_fixed ? M'(FIXED_BURST * STRB_W) : limit - (addr[M-1:0] & (limit - 1'b1));
  wire last = is_nothing || left <= LEN_W'(room);
  wire [M-1:0] bytes = last ? left[M-1:0] : room;
  // The last byte, counted from the start of the first beat.
  wire [M-1:0] tail = M'(addr[S-1:0]) + bytes - 1'b1;

  // The next burst.
  logic burst, burst_last, burst_nothing;
  logic [TAG_W-1:0] burst_tag;
  logic [S-1:0] burst_start, burst_end;
  logic [BW-1:0] available;  // beats that no burst was sent for

  logic outcomes_ready, lanes_ready;
  logic [$clog2(WRITES+1)-1:0] outcomes;
  wire enough = available > BW'(awlen);
  wire sent = awvalid && (awready || dead);
  wire skipped = burst && burst_nothing && outcomes_ready;
  wire load = active && !halt && (!burst || sent || skipped);

  assign ready = !active && !halt;
  assign awvalid = burst && !burst_nothing && enough && outcomes_ready && lanes_ready;
  assign starved = burst && !burst_nothing && !enough && outcomes == '0;

  always_ff @(posedge clk) begin
    if (valid && ready) begin
      addr <= destination;
      left <= length;
      is_fixed <= fixed;
      is_nothing <= nothing;
      rest_tag <= tag;
    end else if (load) begin
      if (!is_fixed) addr <= addr + ADDR_W'(bytes);
      left <= left - LEN_W'(bytes);
    end
    if (load) begin
      awaddr <= {addr[ADDR_W-1:2], 2'b00};
      awlen <= 8'(tail[M-1:S]);
      awfixed <= is_fixed;
      burst_start <= addr[S-1:0];
      burst_end <= tail[S-1:0];
      burst_tag <= rest_tag;
      burst_last <= last;
      burst_nothing <= is_nothing;
    end
    if (!rst_n) begin
      active <= 1'b0;
      burst <= 1'b0;
      available <= '0;
    end else begin
      if (valid && ready) active <= 1'b1;
      else if (halt || (load && last)) active <= 1'b0;
      // A burst that was not sent yet, and may never get data, is dropped.
      if (load) burst <= 1'b1;
      else if (sent || skipped || (halt && !awvalid)) burst <= 1'b0;
      available <= available + BW'(granted) - (sent ? BW'(awlen) + 1'b1 : '0);
    end
  end

  // Bursts whose data is being sent.
  logic [7:0] len, beat;
  logic [S-1:0] start, stop;
  logic sending;
  logic [1:0] lanes_level;
  sfifo #(
      .W(8 + 2 * S),
      .D(2)
  ) u_lanes (
      .clk,
      .rst_n,
      .flush(1'b0),
      .s_data({awlen, burst_start, burst_end}),
      .s_valid(sent),
      .s_ready(lanes_ready),
      .m_data({len, start, stop}),
      .m_valid(sending),
      .m_ready(data_taken && wlast),
      .level(lanes_level)
  );

  assign wvalid = sending && data_valid;
  assign data_ready = sending && (wready || dead);
  wire data_taken = data_valid && data_ready;
  assign wdata = data;
  assign wlast = beat == len;
  wire [STRB_W-1:0] from_start = {STRB_W{1'b1}} << ((beat == '0) ? start : '0);
  wire [STRB_W-1:0] to_end = {STRB_W{1'b1}} >> (wlast ? ~stop : '0);
  assign wstrb = from_start & to_end;

  always_ff @(posedge clk) begin
    if (!rst_n) beat <= '0;
    else if (data_taken) beat <= wlast ? '0 : beat + 1'b1;
  end

  // The outcomes, and the responses for those that have a burst.
  logic waiting, waits_for_none, responded, responses_ready;
  logic [1:0] resp;
  logic [$clog2(WRITES+1)-1:0] responses;
  wire taken = outcome_valid && outcome_ready;

  sfifo #(
      .W(2 + TAG_W),
      .D(WRITES)
  ) u_outcomes (
      .clk,
      .rst_n,
      .flush(1'b0),
      .s_data({burst_nothing, burst_last, burst_tag}),
      .s_valid(sent || skipped),
      .s_ready(outcomes_ready),
      .m_data({waits_for_none, outcome_last, outcome_tag}),
      .m_valid(waiting),
      .m_ready(taken),
      .level(outcomes)
  );
  // It has room for all responses, because each has an entry in the other FIFO.
  sfifo #(
      .W(2),
      .D(WRITES)
  ) u_responses (
      .clk,
      .rst_n,
      .flush(1'b0),
      .s_data(bresp),
      .s_valid(bvalid),
      .s_ready(responses_ready),
      .m_data(resp),
      .m_valid(responded),
      .m_ready(taken && !waits_for_none),
      .level(responses)
  );
  assign outcome_valid = waiting && (waits_for_none || responded || dead);
  assign outcome_resp = waits_for_none ? msm_pkg::OKAY : responded ? resp : msm_pkg::SLVERR;
  assign quiet = !active && !burst && outcomes == '0 && lanes_level == '0;

  wire unused = &{1'b0, responses_ready, responses};
endmodule

`default_nettype wire
