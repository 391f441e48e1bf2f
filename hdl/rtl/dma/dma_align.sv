`default_nettype none

`include "parameter_check.svh"

// Shifts the beats of read requests to the byte lanes of their destination. A beat of the source is rotated, and the bytes that
// pass the end of the beat are held for the next one. The bytes held after the last beat of a descriptor take a cycle of their own,
// in which no beat is accepted. The output has no READY: all its beats have reserved room.
module dma_align #(
    parameter  int DATA_W = 512,
    localparam int STRB_W = DATA_W / 8,
    localparam int S = $clog2(STRB_W)
) (
    input wire clk,
    input wire rst_n,

    input  wire  [DATA_W-1:0] s_data,
    input  wire  [       1:0] s_resp,
    // Destination lane minus source lane.
    input  wire  [     S-1:0] s_rotate,
    // The first beat of a descriptor.
    input  wire               s_first,
    // The first beat of a descriptor does not complete a beat of the destination.
    input  wire               s_short,
    // The last beat of a descriptor, and its last lane.
    input  wire               s_last,
    input  wire  [     S-1:0] s_end,
    input  wire               s_valid,
    output logic              s_ready,

    output logic [DATA_W-1:0] m_data,
    // An error response to any byte of the beat.
    output logic [       1:0] m_resp,
    output logic              m_valid,
    output logic              quiet
);
  `PARAMETER_CHECK(dma_align_DATA_W, DATA_W >= 16 && (DATA_W & (DATA_W - 1)) == 0,
                   "dma_align: DATA_W must be a power of two of at least 16")

  // The number of lanes, in the width of the sum below.
  localparam logic [S:0] LANES = (S + 1)'(STRB_W);

  // First stage: the rotated beat.
  logic [DATA_W-1:0] turned;
  logic [S-1:0] rotate;
  logic [1:0] resp;
  logic valid, opens, ends_short, spills;
  // Second stage: the bytes held, and the cycle that writes them.
  logic [DATA_W-1:0] held;
  logic [1:0] held_resp;
  logic spilling;

  wire take = s_valid && s_ready;
  wire [STRB_W-1:0] high_lanes = {STRB_W{1'b1}} << rotate;

  // In stages, one for each bit of the number of lanes.
  logic [DATA_W-1:0] rotated, merged;
  integer i;
  always_comb begin
    rotated = s_data;
    for (i = 0; i < S; i = i + 1)
    if (s_rotate[i]) rotated = (rotated << (8 << i)) | (rotated >> (DATA_W - (8 << i)));
    for (i = 0; i < STRB_W; i = i + 1) merged[8*i+:8] = high_lanes[i] ? turned[8*i+:8] : held[8*i+:8];
  end

  assign s_ready = !(valid && spills);
  assign quiet   = !valid && !spilling && !m_valid;

  always_ff @(posedge clk) begin
    if (take) begin
      turned <= rotated;
      rotate <= s_rotate;
      resp <= s_resp;
      opens <= s_first;
      ends_short <= s_first && s_short;
      spills <= s_last && ({1'b0, s_end} + {1'b0, s_rotate} >= LANES);
    end
    if (valid) begin
      held <= turned;
      held_resp <= resp;
    end
    m_data <= merged;
    m_resp <= (spilling || (!opens && !resp[1])) ? held_resp : resp;
    if (!rst_n) begin
      valid <= 1'b0;
      spilling <= 1'b0;
      m_valid <= 1'b0;
    end else begin
      valid <= take;
      spilling <= valid && spills;
      m_valid <= spilling || (valid && !ends_short);
    end
  end
endmodule

`default_nettype wire
