`default_nettype none

// Proves the function-level reset: channels are stopped while it is requested; the engine is cleared once, when nothing is under way
// or the time is over, and not before; and `done` is one pulse after that. A request that stays high is served once.
module fv_dma_reset (
    input wire clk,
    input wire rst_n,
    input wire flr,
    input wire idle
);
  localparam int LIMIT = 5;
  logic done, cancel, engine_rst_n;
  dma_reset #(.LIMIT(LIMIT)) dut (.*);

  logic past = 1'b0;
  logic [3:0] held;  // clocks since the request
  logic cleared, reported;  // in answer to it
  logic again;  // a request was served before
  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {held, cleared, reported, again} <= '0;
    end else begin
      held <= !flr ? '0 : (held == '1) ? held : held + 1'b1;
      cleared <= flr && (cleared || (!engine_rst_n && held != '0));
      reported <= flr && (reported || done);
      if (done) again <= 1'b1;
    end
    if (past && rst_n && $past(rst_n)) begin
      // The shell holds the request at least until the engine answers.
      if ($past(flr) && !reported) assume (flr);
      if (flr && held != '0 && !cleared && engine_rst_n) assert (cancel);
      if (!engine_rst_n && $past(rst_n, 2)) begin
        assert ($past(cancel) && !cleared);
        // Idle, after the channels had two clocks to show that they are not; or too late.
        assert (($past(idle) && held >= 4'd4) || held > 4'(LIMIT));
      end
      if (held > 4'(LIMIT) + 4'd2) assert (cleared);
      assert (done == (cleared && !reported && $past(!engine_rst_n)));
      if (!flr && !$past(flr)) assert (!cancel);
      cover (done && held == 4'd5);
      cover (done && held > 4'(LIMIT) && !$past(idle, 2));
      cover (done && again);
    end
  end
endmodule

`default_nettype wire
