`default_nettype none

`include "parameter_check.svh"

// The scalar FIFO: written in beats, read in half beats, lower half first. Each task's scalars start on a new beat, so after an
// odd number of scalars the upper half of the last beat is padding and is dropped.
module scalar_fifo #(
    parameter  int DATA_W = 512,
    // In scalars; even.
    parameter  int DEPTH = 1024,
    localparam int LW = $clog2(DEPTH + 1)
) (
    input  wire                 clk,
    input  wire                 rst_n,
    input  wire                 flush,
    input  wire  [  DATA_W-1:0] s_data,
    input  wire                 s_valid,
    output logic                s_ready,
    output logic [DATA_W/2-1:0] m_data,
    output logic                m_valid,
    input  wire                 m_ready,
    // The scalar at the output is the last of its task; the rest of its beat is padding.
    input  wire                 m_last,
    input  wire                 abort,
    output logic                padding,
    output logic [      LW-1:0] level,
    // Scalars that fit, in whole beats.
    output logic [      LW-1:0] free
);
  `PARAMETER_CHECK(scalar_fifo_DATA_W, DATA_W >= 2 && DATA_W % 2 == 0, "scalar_fifo: DATA_W must be even and at least 2")
  `PARAMETER_CHECK(scalar_fifo_DEPTH, DEPTH >= 2 && DEPTH % 2 == 0, "scalar_fifo: DEPTH must be even and at least 2")

  localparam int BEATS = DEPTH / 2;
  localparam int BW = $clog2(BEATS + 1);

  logic [DATA_W-1:0] beat;
  logic [BW-1:0] beats;
  logic upper;

  wire take = m_valid && m_ready;
  wire done = take && (upper || m_last);
  // No scalar is consumed in the cycle of an abort.
  wire forget = abort && upper;

  assign padding = (take && !upper && m_last) || forget;
  assign m_data = upper ? beat[DATA_W-1:DATA_W/2] : beat[DATA_W/2-1:0];
  assign level = LW'({beats, 1'b0}) - LW'(upper);
  assign free = LW'(DEPTH) - LW'({beats, 1'b0});

  sfifo #(
      .W(DATA_W),
      .D(BEATS)
  ) u_beats (
      .clk,
      .rst_n,
      .flush,
      .s_data,
      .s_valid,
      .s_ready,
      .m_data (beat),
      .m_valid,
      .m_ready(done || forget),
      .level  (beats)
  );

  always_ff @(posedge clk) begin
    if (!rst_n || flush || done || forget) upper <= 1'b0;
    else if (take) upper <= 1'b1;
  end
endmodule

`default_nettype wire
