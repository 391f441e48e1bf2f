`default_nettype none

`include "parameter_check.svh"

// Stub core for studies of the feed. It computes no MSM: it consumes a pair every `pair_cycles` cycles and returns checksums of
// its input as the result. X is the checksum of the scalars, Y is the checksum of the points, and Z is the number of
// pairs.
//
// A checksum treats its input as a stream of 32-byte granules of four 64-bit lanes and depends on their order: each lane keeps
// the sum of its words and the sum of those sums.
module msm_core_stub #(
    parameter int STUB_N = 16
) (
    input  wire          clk,
    input  wire          rst_n,
    input  wire          abort,
    input  wire          task_valid,
    input  wire  [ 31:0] task_count,
    input  wire  [255:0] scalar_data,
    input  wire          scalar_valid,
    output logic         scalar_ready,
    output logic         scalar_last,
    input  wire  [511:0] point_data,
    input  wire          point_valid,
    output logic         point_ready,
    output logic [767:0] result_data,
    output logic         result_valid,
    input  wire          result_ready,
    output logic [ 31:0] left,
    output logic         hungry,
    output logic         working,
    output logic         reducing
);
  `PARAMETER_CHECK(msm_core_stub_STUB_N, STUB_N >= 1, "msm_core_stub: STUB_N must be at least 1")

  // A simulation can change it.
  logic [31:0] pair_cycles  /*verilator public_flat_rw*/ = STUB_N;
  logic [31:0] count, pause;
  logic running;
  logic [255:0] s_sum, s_sums, p_sum, p_sums;
  logic [255:0] s_sum_next, s_sums_next, p_sum_mid, p_sum_next, p_sums_next;

  wire start = task_valid && !running && !abort;
  wire take = hungry && scalar_valid && point_valid;

  assign hungry = running && left != '0 && pause == '0 && !abort;
  assign scalar_ready = hungry && point_valid;
  assign point_ready = hungry && scalar_valid;
  assign scalar_last = left == 32'd1;
  assign working = running && (left != '0 || pause != '0);
  assign reducing = running && left == '0;
  assign result_valid = running && left == '0 && pause == '0 && !abort;

  // A different odd multiplier for each lane, so that swapped lanes change the checksum.
  function automatic [255:0] finish(input [255:0] sum, input [255:0] sums);
    integer lane;
    reg [63:0] odd;
    for (lane = 0; lane < 4; lane = lane + 1) begin
      odd = 64'h9e37_79b9_7f4a_7c15 * 64'(2 * lane + 1);
      finish[64*lane+:64] = (sum[64*lane+:64] * odd) ^ {sums[64*lane+:32], sums[64*lane+32+:32]};
    end
  endfunction

  function automatic [255:0] add(input [255:0] a, input [255:0] b);
    integer lane;
    for (lane = 0; lane < 4; lane = lane + 1)
    add[64*lane+:64] = a[64*lane+:64] + b[64*lane+:64];
  endfunction

  always_comb begin
    s_sum_next = add(s_sum, scalar_data);
    s_sums_next = add(s_sums, s_sum_next);
    p_sum_mid = add(p_sum, point_data[255:0]);
    p_sum_next = add(p_sum_mid, point_data[511:256]);
    p_sums_next = add(add(p_sums, p_sum_mid), p_sum_next);
  end
  assign result_data = {224'd0, count, finish(p_sum, p_sums), finish(s_sum, s_sums)};

  always_ff @(posedge clk) begin
    if (start) begin
      s_sum <= '0;
      s_sums <= '0;
      p_sum <= '0;
      p_sums <= '0;
      count <= task_count;
    end else if (take) begin
      s_sum  <= s_sum_next;
      s_sums <= s_sums_next;
      p_sum  <= p_sum_next;
      p_sums <= p_sums_next;
    end
    if (!rst_n || abort) begin
      running <= 1'b0;
      left <= '0;
      pause <= '0;
    end else begin
      if (start) begin
        running <= 1'b1;
        left <= task_count;
      end else if (take) begin
        left  <= left - 1'b1;
        pause <= pair_cycles - 1'b1;
      end else if (pause != '0) begin
        pause <= pause - 1'b1;
      end
      if (result_valid && result_ready) running <= 1'b0;
    end
  end
endmodule

`default_nettype wire
