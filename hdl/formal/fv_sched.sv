`default_nettype none

// Proves the scheduler with three 2-bit windows (`small_pkg.sv`), so six buckets: no bucket ever has two additions in flight, for
// any digits and any latency of the adder. In place of the adder, the testbench completes an addition of the watched bucket at an
// arbitrary time.
module fv_sched (
    input wire         clk,
    input wire         rst_n,
    input wire         abort,
    input wire [  5:0] scalar,
    input wire         valid,
    input wire         slot,
    input wire         done,
    input wire [  2:0] other_addr
);
  (* anyconst *)
  logic [2:0] watch;
  logic ready, issue, issue_negative, busy;
  logic [2:0] issue_addr;
  logic issue_x, issue_y;
  logic under_way;
  logic past = 1'b0;
  logic [3:0] issues;

  wire written = done && (under_way || other_addr != watch);
  wire [2:0] written_addr = other_addr;

  msm_sched #(
      .C(2),
      .RETRY(2),
      .K_W(6),
      .X_W(1)
  ) dut (
      .x(1'b1),
      .y(1'b0),
      .clear(1'b0),
      .clear_addr('0),
      .*
  );

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    assume (watch < 3'd6 && other_addr < 3'd6);
    if (!rst_n) begin
      under_way <= 1'b0;
      issues <= '0;
    end else if (past) begin
      if (written && written_addr == watch) under_way <= 1'b0;
      if (issue && issue_addr == watch) begin
        assert (!under_way);
        under_way <= 1'b1;
        issues <= issues + 1'b1;
      end
      if (issue) assert (slot && !abort);
      if ($past(abort)) assert (!busy);
      cover (issues == 4'd2 && busy);
    end
  end
endmodule

`default_nettype wire
