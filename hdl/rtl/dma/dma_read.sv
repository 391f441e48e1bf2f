`default_nettype none

`include "parameter_check.svh"

// The read half of a mover. Splits descriptors into read requests, and returns their bytes in the lanes of the destination.
//
// A request is sent only when the buffer behind this module has room for all its beats, so RREADY never waits for it. Requests end
// at multiples of their size and therefore never cross 4 KiB. Requests have the same ID, so their data arrive in order.
module dma_read #(
    parameter int DATA_W = 512,
    parameter int ADDR_W = 64,
    parameter int LEN_W = 28,
    // Requests under way.
    parameter int READS = 64,
    // Beats in the buffer.
    parameter int BUFFER = 1024,
    localparam int STRB_W = DATA_W / 8,
    localparam int S = $clog2(STRB_W)
) (
    input wire clk,
    input wire rst_n,

    // Beats per request: 2, 4 or 8.
    input wire [1:0] size,
    // No further request is sent. The current descriptor is dropped.
    input wire halt,
    // The port is dead: all requests get error responses from here.
    input wire dead,
    // Nothing is under way.
    output logic quiet,

    input  wire  [ADDR_W-1:0] source,
    input  wire  [     S-1:0] destination,
    // Not zero.
    input  wire  [ LEN_W-1:0] length,
    // The address does not advance.
    input  wire               fixed,
    input  wire               valid,
    output logic              ready,

    output logic [ADDR_W-1:0] araddr,
    output logic [       7:0] arlen,
    output logic              arfixed,
    output logic              arvalid,
    input  wire               arready,
    input  wire  [DATA_W-1:0] rdata,
    input  wire  [       1:0] rresp,
    input  wire               rlast,
    input  wire               rvalid,
    output logic              rready,

    output logic [DATA_W-1:0] m_data,
    output logic [       1:0] m_resp,
    output logic              m_valid,
    // A beat left the buffer.
    input  wire               released
);
  `PARAMETER_CHECK(dma_read_DATA_W, DATA_W >= 16 && (DATA_W & (DATA_W - 1)) == 0,
                   "dma_read: DATA_W must be a power of two of at least 16")
  `PARAMETER_CHECK(dma_read_READS, READS >= 1, "dma_read: READS must be at least 1")
  `PARAMETER_CHECK(dma_read_BUFFER, BUFFER >= 9, "dma_read: BUFFER must be at least 9")
  `PARAMETER_CHECK(dma_read_LEN_W, LEN_W >= S + 4 && LEN_W <= ADDR_W, "dma_read: LEN_W must be log2(DATA_W/8) + 4 to ADDR_W")

  // Bytes of a request and of the lanes in front of it: below 2^M.
  localparam int M = S + 4;
  localparam int BW = $clog2(BUFFER + 1);

  // The rest of the descriptor.
  logic [ADDR_W-1:0] addr;
  logic [LEN_W-1:0] left;
  logic [S-1:0] lane;
  logic [S-1:0] rotate;
  logic active, first, is_fixed;

  wire [M-1:0] limit = M'(2 * STRB_W) << size;
  wire [M-1:0] room = limit - (addr[M-1:0] & (limit - 1'b1));
  wire last = left <= LEN_W'(room);
  wire [M-1:0] bytes = last ? left[M-1:0] : room;
  // The last byte, counted from the start of the first beat.
  wire [M-1:0] tail = M'(addr[S-1:0]) + bytes - 1'b1;
  wire [M-1:0] filled = M'(lane) + bytes;

  // The next request.
  logic request, request_first, request_short, request_last;
  logic [S-1:0] request_rotate, request_end;
  logic [M-S:0] request_beats;  // that it adds to the buffer
  logic [BW-1:0] free;

  wire sent = arvalid && (arready || dead);
  wire load = active && !halt && (!request || sent);
  assign ready = !active && !halt;

  always_ff @(posedge clk) begin
    if (valid && ready) begin
      addr <= source;
      left <= length;
      lane <= destination;
      rotate <= destination - source[S-1:0];
      first <= 1'b1;
      is_fixed <= fixed;
    end else if (load) begin
      if (!is_fixed) addr <= addr + ADDR_W'(bytes);
      left  <= left - LEN_W'(bytes);
      lane  <= filled[S-1:0];
      first <= 1'b0;
    end
    if (load) begin
      araddr <= {addr[ADDR_W-1:2], 2'b00};
      arlen <= 8'(tail[M-1:S]);
      arfixed <= is_fixed;
      request_first <= first;
      request_short <= lane < addr[S-1:0];
      request_last <= last;
      request_rotate <= rotate;
      request_end <= tail[S-1:0];
      request_beats <= {1'b0, filled[M-1:S]} + (M - S + 1)'(last && filled[S-1:0] != '0);
    end
    if (!rst_n) begin
      active  <= 1'b0;
      request <= 1'b0;
    end else begin
      if (valid && ready) active <= 1'b1;
      else if (halt || (load && last)) active <= 1'b0;
      // A request that was not sent yet, and may never get room, is dropped.
      if (load) request <= 1'b1;
      else if (sent || (halt && !arvalid)) request <= 1'b0;
    end
  end

  // Requests under way.
  logic align_ready, align_quiet;
  logic under_way, queue_ready;
  logic [$clog2(READS+1)-1:0] requests;
  logic head_first, head_short, head_last;
  logic [S-1:0] head_rotate, head_end;
  logic [7:0] head_len, arrived;  // beats of the oldest request
  wire beat_valid = under_way && (rvalid || dead);
  wire beat_last = dead ? arrived == head_len : rlast;
  wire beat = beat_valid && align_ready;

  assign arvalid = request && queue_ready && free >= BW'(request_beats);

  sfifo #(
      .W(8 + 3 + 2 * S),
      .D(READS)
  ) u_requests (
      .clk,
      .rst_n,
      .flush(1'b0),
      .s_data({arlen, request_first, request_short, request_last, request_rotate, request_end}),
      .s_valid(sent),
      .s_ready(queue_ready),
      .m_data({head_len, head_first, head_short, head_last, head_rotate, head_end}),
      .m_valid(under_way),
      .m_ready(beat && beat_last),
      .level(requests)
  );

  assign rready = align_ready && under_way;
  assign quiet  = !active && !request && requests == '0 && align_quiet;

  always_ff @(posedge clk) begin
    if (!rst_n) begin
      arrived <= '0;
      free   <= BW'(BUFFER);
    end else begin
      if (beat) arrived <= beat_last ? '0 : arrived + 1'b1;
      free <= free + BW'(released) - (sent ? BW'(request_beats) : '0);
    end
  end

  dma_align #(
      .DATA_W(DATA_W)
  ) u_align (
      .clk,
      .rst_n,
      .s_data(rdata),
      .s_resp(dead ? msm_pkg::SLVERR : rresp),
      .s_rotate(head_rotate),
      .s_first(head_first && arrived == '0),
      .s_short(head_short),
      .s_last(head_last && beat_last),
      .s_end(head_end),
      .s_valid(beat_valid),
      .s_ready(align_ready),
      .m_data,
      .m_resp,
      .m_valid,
      .quiet(align_quiet)
  );
endmodule

`default_nettype wire
