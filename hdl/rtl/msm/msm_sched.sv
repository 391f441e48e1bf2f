`default_nettype none

`include "parameter_check.svh"

// Turns pairs into bucket additions: one digit per slot, from the lowest window up. An addition whose bucket is busy waits in the
// retry queue. Once its bucket is free, it takes precedence over new additions.
module msm_sched #(
    parameter  int C = 13,
    // Additions that can wait for a busy bucket.
    parameter  int RETRY = 64,
    // Bits of a scalar and of a coordinate; smaller only in formal proofs.
    parameter  int K_W = 256,
    parameter  int X_W = 256,
    localparam int W = bn254_pkg::SCALAR_BITS / C + 1,
    localparam int BUCKETS = W << (C - 1),
    localparam int A = $clog2(BUCKETS)
) (
    input  wire          clk,
    input  wire          rst_n,
    input  wire          abort,
    input  wire  [K_W-1:0] scalar,
    input  wire  [X_W-1:0] x,
    input  wire  [X_W-1:0] y,
    input  wire          valid,
    output logic         ready,
    // The adder accepts an addition issued now.
    input  wire          slot,
    output logic         issue,
    output logic [A-1:0] issue_addr,
    output logic         issue_negative,
    output logic [X_W-1:0] issue_x,
    output logic [X_W-1:0] issue_y,
    input  wire          written,
    input  wire  [A-1:0] written_addr,
    input  wire          clear,
    input  wire  [A-1:0] clear_addr,
    output logic         busy
);
  `PARAMETER_CHECK(msm_sched_C, C >= 2 && C <= 16, "msm_sched: C must be 2 to 16")
  `PARAMETER_CHECK(msm_sched_RETRY, RETRY >= 1, "msm_sched: RETRY must be at least 1")
  `PARAMETER_CHECK(msm_sched_K_W, K_W >= C && K_W >= bn254_pkg::SCALAR_BITS, "msm_sched: K_W must hold a window and a scalar")
  `PARAMETER_CHECK(msm_sched_X_W, X_W >= 1, "msm_sched: X_W must be at least 1")

  localparam int WW = $clog2(W);

  // The current pair.
  logic have, carry;
  logic [K_W-1:0] bits;
  logic [X_W-1:0] pair_x, pair_y;
  logic [WW-1:0] window;
  wire last = window == WW'(W - 1);

  logic zero, negative, carry_out;
  logic [C-2:0] bucket;
  digit_recode #(
      .C(C)
  ) u_digit (
      .bits(bits[C-1:0]),
      .carry_in(carry),
      .zero,
      .negative,
      .bucket,
      .carry_out
  );
  // Windows are contiguous: w 2^(C-1) + bucket.
  wire [A-1:0] fresh_addr = A'({window, bucket});

  logic retry_push, retry_ready, retry_valid, retry_pop, retry_negative;
  logic [A-1:0] retry_addr;
  logic [X_W-1:0] retry_x, retry_y;
  logic [$clog2(RETRY+1)-1:0] retry_level;
  sfifo #(
      .W(A + 1 + 2 * X_W),
      .D(RETRY)
  ) u_retry (
      .clk,
      .rst_n,
      .flush(abort),
      .s_data({fresh_addr, negative, pair_y, pair_x}),
      .s_valid(retry_push),
      .s_ready(retry_ready),
      .m_data({retry_addr, retry_negative, retry_y, retry_x}),
      .m_valid(retry_valid),
      .m_ready(retry_pop),
      .level(retry_level)
  );

  logic fresh_busy, retry_busy;
  scoreboard #(
      .DEPTH(BUCKETS)
  ) u_scoreboard (
      .clk,
      .clear,
      .clear_addr,
      .first_addr(fresh_addr),
      .first_busy(fresh_busy),
      .second_addr(retry_addr),
      .second_busy(retry_busy),
      .issue,
      .issue_addr,
      .written,
      .written_addr
  );

  wire fresh = have && !zero && slot;
  wire fresh_go = fresh && !fresh_busy && !retry_pop;
  wire advance = have && (zero || fresh_go || retry_push);

  assign retry_pop = slot && retry_valid && !retry_busy && !abort;
  assign retry_push = fresh && !fresh_go && retry_ready;

  assign issue = (retry_pop || fresh_go) && !abort;
  assign issue_addr = retry_pop ? retry_addr : fresh_addr;
  assign issue_negative = retry_pop ? retry_negative : negative;
  assign issue_x = retry_pop ? retry_x : pair_x;
  assign issue_y = retry_pop ? retry_y : pair_y;

  assign ready = !have || (advance && last);
  assign busy = have || retry_level != '0;

  always_ff @(posedge clk) begin
    if (ready) begin
      bits <= scalar;
      pair_x <= x;
      pair_y <= y;
      window <= '0;
      carry <= 1'b0;
    end else if (advance) begin
      bits <= bits >> C;
      window <= window + 1'b1;
      carry <= carry_out;
    end
    if (!rst_n || abort) have <= 1'b0;
    else if (ready) have <= valid;
  end
endmodule

`default_nettype wire
