`default_nettype none

`include "parameter_check.svh"

// The 64-bit counters, concatenated in the order of `pair_addr` in `msm_regs`, and the high-water marks.
module msm_counters #(
    parameter  int SC_DEPTH = 1024,
    parameter  int PT_DEPTH = 1024,
    localparam int SW = $clog2(SC_DEPTH + 1),
    localparam int PW = $clog2(PT_DEPTH + 1)
) (
    input  wire             clk,
    input  wire             rst_n,
    input  wire             scalar_push,
    input  wire             point_push,
    input  wire             padding,
    // The core consumes a pair, can accept one, is busy; pairs of its task that are not consumed yet.
    input  wire             take,
    input  wire             hungry,
    input  wire             working,
    input  wire  [    31:0] left,
    // The current task ends.
    input  wire             task_end,
    input  wire             abort,
    input  wire             scalar_valid,
    input  wire             point_valid,
    input  wire             scalar_stalled,
    input  wire             point_stalled,
    input  wire  [  SW-1:0] scalars,
    input  wire  [  PW-1:0] points,
    output logic [12*64-1:0] counts,
    output logic [  SW-1:0] high_scalars,
    output logic [  PW-1:0] high_points
);
  `PARAMETER_CHECK(msm_counters_SC_DEPTH, SC_DEPTH >= 1, "msm_counters: SC_DEPTH must be at least 1")
  `PARAMETER_CHECK(msm_counters_PT_DEPTH, PT_DEPTH >= 1, "msm_counters: PT_DEPTH must be at least 1")

  logic [63:0] phase1, pushed_scalars, pushed_points, consumed, cycles, busy;
  logic [63:0] starve_scalar, starve_point, starve_both, stall_scalar, stall_point;
  logic [63:0] phase1_clocks;  // of the task that is consuming pairs
  logic taking;

  assign counts = {
    stall_point,
    stall_scalar,
    starve_both,
    starve_point,
    starve_scalar,
    busy,
    cycles,
    consumed,
    consumed,
    pushed_points,
    pushed_scalars,
    phase1
  };

  always_ff @(posedge clk) begin
    if (!rst_n) begin
      {phase1, pushed_scalars, pushed_points, consumed, cycles, busy} <= '0;
      {starve_scalar, starve_point, starve_both, stall_scalar, stall_point} <= '0;
      {high_scalars, high_points} <= '0;
      phase1_clocks <= '0;
      taking <= 1'b0;
    end else begin
      cycles <= cycles + 1'b1;
      pushed_scalars <= pushed_scalars + (scalar_push ? 64'd2 : 64'd0) - 64'(padding);
      pushed_points <= pushed_points + 64'(point_push);
      consumed <= consumed + 64'(take);
      busy <= busy + 64'(working && (take || !hungry));
      starve_scalar <= starve_scalar + 64'(hungry && !scalar_valid && point_valid);
      starve_point <= starve_point + 64'(hungry && scalar_valid && !point_valid);
      starve_both <= starve_both + 64'(hungry && !scalar_valid && !point_valid);
      stall_scalar <= stall_scalar + 64'(scalar_stalled);
      stall_point <= stall_point + 64'(point_stalled);
      if (scalars > high_scalars) high_scalars <= scalars;
      if (points > high_points) high_points <= points;
      // Phase 1 lasts from the first pair to the last.
      taking <= (taking || take) && !task_end && !abort;
      phase1_clocks <= taking ? phase1_clocks + 1'b1 : '0;
      if (take && left == 32'd1) phase1 <= taking ? phase1_clocks + 1'b1 : '0;
    end
  end
endmodule

`default_nettype wire
