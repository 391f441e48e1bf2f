`default_nettype none

// Proves the completion unit: it counts exactly the descriptors that succeeded, writes back no more than the count, waits for each
// response, and sets the status bits of a descriptor only after the write-back that covers it.
module fv_dma_complete (
    input wire        clk,
    input wire        rst_n,
    input wire        start,
    input wire [23:0] logged,
    input wire        write_back_on,
    input wire        outcome_last,
    input wire        outcome_stop,
    input wire        outcome_completed,
    input wire [ 1:0] outcome_fault,
    input wire [ 1:0] outcome_resp,
    input wire        outcome_valid,
    input wire        awready,
    input wire        wready,
    input wire        bvalid
);
  (* anyconst *)
  logic [15:0] write_back;
  logic [31:0] count;
  logic [63:0] wdata;
  logic [23:0] raised;
  logic finished, failed, pending, awvalid, wvalid;
  logic [15:0] awaddr;
  logic [7:0] wstrb;

  dma_complete #(
      .TO_CARD(1'b1),
      .DATA_W (64),
      .ADDR_W (16)
  ) dut (
      .errors(1'b0),
      .halt  (1'b0),
      .*
  );

  logic past = 1'b0;
  logic [7:0] done;  // descriptors
  logic [7:0] covered;  // by the write-back under way, or by the last one answered
  logic busy, aw_done, w_done;
  wire error = outcome_valid && (outcome_fault != '0 || (outcome_resp[1] && logged[outcome_resp[0]?14 : 15]));
  wire succeeds = outcome_valid && outcome_last && !error;
  // The number of the last descriptor with Completed whose write-back was wanted and whose status bit is due.
  logic [7:0] newest;
  logic owes;

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {done, covered, busy, aw_done, w_done, newest, owes} <= '0;
    end else if (past) begin
      assume (outcome_resp != 2'b01);
      // A list starts when nothing of the last one is left.
      if (start) assume (!pending && !outcome_valid);
      assume (!bvalid || (busy && aw_done && w_done));
      assume (done < 8'd200);
      if (start) done <= '0;
      else if (succeeds) done <= done + 1'b1;
      if (start) newest <= '0;
      assert (count == {24'd0, done});
      assert (failed == error && finished == (succeeds && outcome_stop));

      // The write-back.
      if ($past(rst_n && awvalid && !awready)) assert (awvalid && $stable(awaddr));
      if ($past(rst_n && wvalid && !wready)) assert (wvalid && $stable({wdata, wstrb}));
      if (awvalid) assert (awaddr == {write_back[15:2], 2'b00} && !aw_done);
      if (wvalid) assert (wstrb == 8'h0f << {awaddr[2], 2'b00} && !w_done);
      if ((awvalid || wvalid) && !busy) assert (wdata == {2{24'd0, $past(done)}});
      if ((awvalid || wvalid) && !busy) covered <= wdata[7:0];
      if (awvalid || wvalid) busy <= 1'b1;
      if (bvalid) {busy, aw_done, w_done} <= '0;
      else begin
        if (awvalid && awready) aw_done <= 1'b1;
        if (wvalid && wready) w_done <= 1'b1;
      end

      // The status bit of a descriptor with a write-back.
      if (succeeds && outcome_completed && write_back_on) {owes, newest} <= {1'b1, done + 1'b1};
      else if (bvalid && covered >= newest) owes <= 1'b0;
      if (raised[2]) assert (bvalid || (succeeds && outcome_completed && !write_back_on));
      if (bvalid) assert (raised[2]);
      if (owes) assert (pending);
      cover (bvalid && covered == 8'd3 && done == 8'd4);
      cover (failed && outcome_resp == 2'b10);
      cover (!owes && newest == 8'd2 && !pending);
    end
  end
endmodule

`default_nettype wire
