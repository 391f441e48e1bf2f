`default_nettype none

`include "parameter_check.svh"

// Pippenger's algorithm with one complete adder. The core adds each point to buckets selected by the signed C-bit digits of its
// scalar, then reduces the buckets to one projective point.
//
// It processes one task at a time. A result waits here until the result queue has room. Between tasks all buckets are infinity:
// each is cleared as it is summed, and all are cleared after a reset or an abort.
module msm_core #(
    parameter  int C = 13,
    parameter  int ML = 25,
    parameter  int AL = 1,
    parameter  int II = 1,
    parameter  int RETRY = 64,
    parameter  int FP_IMPL = msm_pkg::FP_TILED,
    localparam int W = bn254_pkg::SCALAR_BITS / C + 1,
    localparam int BUCKETS = W << (C - 1),
    localparam int A = $clog2(BUCKETS),
    localparam int WW = $clog2(W)
) (
    input  wire          clk,
    input  wire          rst_n,
    input  wire          abort,
    input  wire          task_valid,
    input  wire  [ 31:0] task_count,
    input  wire          task_montgomery,
    input  wire  [255:0] scalar_data,
    input  wire          scalar_valid,
    output logic         scalar_ready,
    output logic         scalar_last,
    input  wire  [511:0] point_data,
    input  wire          point_valid,
    output logic         point_ready,
    // {z, y, x}; accepting it ends the task.
    output logic [767:0] result_data,
    output logic         result_valid,
    input  wire          result_ready,
    // Pairs not consumed yet, and whether one can be accepted now.
    output logic [ 31:0] left,
    output logic         hungry,
    output logic         working,
    output logic         reducing
);
  `PARAMETER_CHECK(msm_core_C, C >= 2 && C <= 16, "msm_core: C must be 2 to 16")
  `PARAMETER_CHECK(msm_core_ML, ML >= 1, "msm_core: ML must be at least 1")
  `PARAMETER_CHECK(msm_core_AL, AL >= 1, "msm_core: AL must be at least 1")
  `PARAMETER_CHECK(msm_core_II, II >= 1 && II <= 2, "msm_core: II must be 1 or 2")
  `PARAMETER_CHECK(msm_core_RETRY, RETRY >= 1, "msm_core: RETRY must be at least 1")
  `PARAMETER_CHECK(msm_core_FP_IMPL, FP_IMPL >= 0 && FP_IMPL <= 2, "msm_core: FP_IMPL must be 0, 1 or 2")

  localparam int TAG_W = 2 + A;
  localparam int FLIGHT_W = $clog2(2 * ML + 8 * AL + 8);

  typedef enum logic [2:0] {
    CLEAR,
    IDLE,
    TAKE,
    REDUCE,
    GIVE,
    STOP
  } state_t;
  state_t state;

  logic [A-1:0] clear_addr;
  logic [FLIGHT_W-1:0] flight;  // additions issued but not written back
  wire idle = flight == '0;
  wire clear = state == CLEAR;
  wire start = state == IDLE && task_valid && !abort;

  logic [255:0] scalar, x, y;
  logic pair_valid, pair_ready, front_busy;
  pair_front u_front (
      .clk,
      .rst_n,
      .start,
      .count(task_count),
      .abort,
      .scalar_data,
      .scalar_valid,
      .scalar_ready,
      .scalar_last,
      .point_data,
      .point_valid,
      .point_ready,
      .scalar,
      .x,
      .y,
      .valid(pair_valid),
      .ready(pair_ready),
      .left,
      .hungry,
      .busy(front_busy)
  );

  logic slot, take_issue, take_negative, sched_busy;
  logic [A-1:0] take_addr;
  logic [255:0] take_x, take_y;
  logic sum_valid, bucket_written;
  logic [1:0] sum_to;
  logic [A-1:0] sum_addr;
  logic [767:0] sum;
  msm_sched #(
      .C(C),
      .RETRY(RETRY)
  ) u_sched (
      .clk,
      .rst_n,
      .abort,
      .scalar,
      .x,
      .y,
      .valid(pair_valid),
      .ready(pair_ready),
      .slot,
      .issue(take_issue),
      .issue_addr(take_addr),
      .issue_negative(take_negative),
      .issue_x(take_x),
      .issue_y(take_y),
      .written(bucket_written),
      .written_addr(sum_addr),
      .clear,
      .clear_addr,
      .busy(sched_busy)
  );

  wire all_in = left == '0 && !front_busy && !sched_busy && idle;
  logic reduce_busy, reduce_issue, first, load_chain, load_base, montgomery;
  logic [1:0] reduce_to, operand;
  logic [WW-1:0] window;
  logic [A-1:0] reduce_addr;
  wire reduce_start = state == TAKE && all_in && !abort;
  msm_reduce #(
      .C(C)
  ) u_reduce (
      .clk,
      .rst_n,
      .abort,
      .start(reduce_start),
      .montgomery,
      .busy(reduce_busy),
      .slot,
      .idle,
      .issue(reduce_issue),
      .to(reduce_to),
      .window,
      .bucket_addr(reduce_addr),
      .first,
      .operand,
      .load_chain,
      .load_base
  );

  // First stage: the addresses, and the point, negated for a negative digit.
  logic s1_valid, s1_first;
  logic [1:0] s1_to, s1_operand;
  logic [A-1:0] s1_addr;
  logic [WW-1:0] s1_window;
  logic [255:0] s1_x, s1_y;
  wire issue = take_issue || reduce_issue;
  always_ff @(posedge clk) begin
    s1_valid <= rst_n && issue && !abort;
    s1_to <= take_issue ? msm_pkg::TO_BUCKET : reduce_to;
    s1_addr <= take_issue ? take_addr : reduce_addr;
    s1_window <= window;
    s1_first <= first;
    s1_operand <= operand;
    s1_x <= take_x;
    s1_y <= take_negative ? bn254_pkg::P - take_y : take_y;
  end

  // Second stage: the operands.
  (* ram_style = "distributed" *)
  logic [767:0] accs[0:W-1];
  (* ram_style = "distributed" *)
  logic [767:0] sums[0:W-1];
  logic [767:0] chain, base, bucket, s2_p, s2_q;
  logic s2_valid;
  logic [1:0] s2_to;
  logic [A-1:0] s2_addr;
  wire [767:0] acc_now = s1_first ? bn254_pkg::INFINITY : accs[s1_window];
  wire [767:0] sum_now = s1_first ? bn254_pkg::INFINITY : sums[s1_window];
  always_ff @(posedge clk) begin
    s2_valid <= rst_n && s1_valid;
    s2_to <= s1_to;
    // An addition to a sum uses no bucket, so its address is the window.
    s2_addr <= (s1_to == msm_pkg::TO_SUM) ? A'(s1_window) : s1_addr;
    s2_p <= (s1_to == msm_pkg::TO_CHAIN) ? chain : sum_now;
    case (s1_to)
      msm_pkg::TO_BUCKET: s2_q <= {bn254_pkg::ONE, s1_y, s1_x};
      msm_pkg::TO_CHAIN:
      case (s1_operand)
        msm_pkg::ADD_SUM: s2_q <= sums[s1_window];
        msm_pkg::ADD_BASE: s2_q <= base;
        default: s2_q <= chain;
      endcase
      default: s2_q <= acc_now;
    endcase
  end
  logic [WW-1:0] s2_window;
  always_ff @(posedge clk) s2_window <= s1_window;

  // A bucket is cleared as it is added to its window's acc.
  wire s2_is_acc = s2_valid && s2_to == msm_pkg::TO_ACC;
  bucket_ram #(
      .DEPTH(BUCKETS)
  ) u_buckets (
      .clk,
      .write(clear || s2_is_acc || bucket_written),
      .write_addr(clear ? clear_addr : s2_is_acc ? s2_addr : sum_addr),
      .write_data((clear || s2_is_acc) ? bn254_pkg::INFINITY : sum),
      .read_addr(s1_addr),
      .read_data(bucket)
  );

  wire s2_bucket = s2_to == msm_pkg::TO_BUCKET || s2_to == msm_pkg::TO_ACC;
  ec_add #(
      .ML(ML),
      .AL(AL),
      .II(II),
      .FP_IMPL(FP_IMPL),
      .TAG_W(TAG_W)
  ) u_add (
      .clk,
      .rst_n,
      // An addition enters the adder two cycles after its issue, which is the same phase for II = 2.
      .in_ready(slot),
      .in_valid(s2_valid),
      .in_tag({s2_to, s2_is_acc ? A'(s2_window) : s2_addr}),
      .p(s2_bucket ? bucket : s2_p),
      .q(s2_q),
      .out_valid(sum_valid),
      .out_tag({sum_to, sum_addr}),
      .sum
  );

  assign bucket_written = sum_valid && sum_to == msm_pkg::TO_BUCKET;
  always_ff @(posedge clk) begin
    if (sum_valid && sum_to == msm_pkg::TO_ACC) accs[sum_addr[WW-1:0]] <= sum;
    if (sum_valid && sum_to == msm_pkg::TO_SUM) sums[sum_addr[WW-1:0]] <= sum;
    if (load_chain) chain <= sums[W-1];
    else if (sum_valid && sum_to == msm_pkg::TO_CHAIN) chain <= sum;
    if (load_base) base <= chain;
    if (!rst_n) flight <= '0;
    else flight <= flight + FLIGHT_W'(issue && !abort) - FLIGHT_W'(sum_valid);
  end

  assign working = state == TAKE || state == REDUCE;
  assign reducing = state == REDUCE || (state == TAKE && left == '0);
  assign result_valid = state == GIVE && !abort;
  assign result_data = chain;

  always_ff @(posedge clk) begin
    if (start) montgomery <= task_montgomery;
    if (!rst_n) begin
      state <= CLEAR;
      clear_addr <= '0;
    end else begin
      case (state)
        CLEAR: begin
          clear_addr <= clear_addr + 1'b1;
          if (clear_addr == A'(BUCKETS - 1)) state <= IDLE;
        end
        IDLE: if (start) state <= TAKE;
        TAKE: if (reduce_start) state <= REDUCE;
        REDUCE: if (!reduce_busy) state <= GIVE;
        GIVE: if (result_ready) state <= IDLE;
        default:
        if (idle) begin
          state <= CLEAR;
          clear_addr <= '0;
        end
      endcase
      if (abort) begin
        if (state == TAKE || state == REDUCE) state <= STOP;
        if (state == GIVE) state <= IDLE;
      end
    end
  end

endmodule

`default_nettype wire
