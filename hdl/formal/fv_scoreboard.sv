`default_nettype none

// Proves for an arbitrary bucket that the scoreboard reports whether an addition is in flight.
module fv_scoreboard (
    input wire       clk,
    input wire       clear,
    input wire [2:0] clear_addr,
    input wire [2:0] first_addr,
    input wire       issue,
    input wire [2:0] issue_addr,
    input wire       written,
    input wire [2:0] written_addr
);
  (* anyconst *)
  logic [2:0] watch;
  logic first_busy, second_busy;
  logic busy, cleared = 1'b0, issued = 1'b0;

  scoreboard #(
      .DEPTH(7)
  ) dut (
      .second_addr(watch),
      .*
  );

  always_ff @(posedge clk) begin
    assume (watch < 3'd7 && issue_addr < 3'd7 && written_addr < 3'd7);
    // The scoreboard is cleared first and used correctly.
    if (clear) assume (!issue && !written && !issued);
    if (!cleared) assume (!issue && !written);
    if (issue && issue_addr == watch) assume (!second_busy);
    if (written && written_addr == watch) assume (busy);
    if (clear && clear_addr == watch) begin
      cleared <= 1'b1;
      busy <= 1'b0;
    end
    if (issue) issued <= 1'b1;
    if (issue && issue_addr == watch) busy <= 1'b1;
    if (written && written_addr == watch) busy <= 1'b0;
    if (cleared) assert (second_busy == busy);
    if (cleared && first_addr == watch) assert (first_busy == busy);
    assert (!issued || cleared);
    cover (issued && cleared && !busy && $past(busy));
  end
endmodule

`default_nettype wire
