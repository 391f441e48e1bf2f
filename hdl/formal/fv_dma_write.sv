`default_nettype none

// Proves the write half of a mover with beats of four bytes: no burst without buffered data, none that crosses a multiple of BURST
// beats (and with it 4 KiB), strobes for exactly the bytes of the descriptor, and outcomes in order and after their responses.
module fv_dma_write (
    input wire        clk,
    input wire        rst_n,
    input wire [15:0] destination,
    input wire [ 7:0] length,
    input wire        nothing,
    input wire [ 3:0] tag,
    input wire        valid,
    input wire        halt,
    input wire        granted,
    input wire        awready,
    input wire        wready,
    input wire [ 1:0] bresp,
    input wire        bvalid,
    input wire        outcome_ready
);
  localparam int BUFFER = 6;
  logic quiet, starved, ready, data_ready, awfixed, awvalid, wlast, wvalid;
  logic outcome_last, outcome_valid;
  logic [15:0] awaddr;
  logic [7:0] awlen;
  logic [31:0] wdata;
  logic [3:0] wstrb, outcome_tag;
  logic [1:0] outcome_resp;
  logic [7:0] stored;  // beats in the buffer

  dma_write #(
      .DATA_W(32),
      .ADDR_W(16),
      .LEN_W (8),
      .BURST (2),
      .WRITES(2),
      .BUFFER(BUFFER),
      .TAG_W (4)
  ) dut (
      .fixed(1'b0),
      .dead(1'b0),
      .data(32'h0),
      .data_valid(stored != '0),
      .*
  );

  wire sent = awvalid && awready;
  wire written = wvalid && wready;
  wire [7:0] asked = awlen + 1'b1;
  logic [7:0] committed;  // beats of the bursts sent whose data was not sent
  logic [7:0] bursts, ends, answers;  // sent, complete, answered
  logic [7:0] owed;  // outcomes with a burst that were not reported

  // The bytes of the descriptor that was accepted last, and those strobed since.
  logic [15:0] from, to;
  logic [7:0] bytes, strobed;
  logic single, alone;
  // The burst whose data is being sent, at most one ahead.
  logic [15:0] at[0:1];
  logic [7:0] len[0:1];
  logic [1:0] level;
  logic [7:0] beat;
  wire [15:0] place = {at[0][15:2], 2'b00} + {6'd0, beat, 2'b00};

  logic past = 1'b0;
  integer i;
  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {stored, committed, bursts, ends, answers, owed, level, beat, strobed, single, alone} <= '0;
    end else if (past) begin
      // The environment.
      if (valid) assume (nothing || (length != '0 && {1'b0, destination} + 17'(length) <= 17'h10000));
      if ($past(rst_n && valid && !ready && !halt)) assume (valid && $stable({destination, length, nothing, tag}));
      if ($past(rst_n && halt)) assume (halt);
      assume (!granted || stored < 8'(BUFFER));
      assume (!bvalid || answers < ends);
      assume (bursts < 8'd200);

      stored <= stored + 8'(granted) - 8'(written);
      committed <= committed + (sent ? asked : '0) - 8'(written);
      bursts <= bursts + 8'(sent);
      ends <= ends + 8'(written && wlast);
      answers <= answers + 8'(bvalid);

      // Addresses.
      if ($past(rst_n && awvalid && !awready)) assert (awvalid && $stable({awaddr, awlen}));
      if (awvalid) assert (committed + asked <= stored);
      if (awvalid) assert ({1'b0, awaddr[2]} + asked[1:0] <= 2'd2 && asked <= 8'd2);
      assert (bursts - answers <= 8'd2);

      // Data. It never waits for the source.
      if ($past(rst_n && wvalid && !wready)) assert (wvalid && $stable({wstrb, wlast}));
      if (wvalid) assert (level != '0 && wlast == (beat == len[0]) && wstrb != '0);
      if (data_ready) assert (stored != '0);
      if (sent && written && wlast) begin
        at[0]  <= (level == 2'd1) ? awaddr : at[1];
        len[0] <= (level == 2'd1) ? awlen : len[1];
        at[1]  <= awaddr;
        len[1] <= awlen;
      end else if (written && wlast) begin
        at[0]  <= at[1];
        len[0] <= len[1];
        level  <= level - 1'b1;
      end else if (sent) begin
        at[level[0]]  <= awaddr;
        len[level[0]] <= awlen;
        level <= level + 1'b1;
      end
      if (written) beat <= wlast ? '0 : beat + 1'b1;
      if (valid && ready) begin
        single <= quiet;
        {from, to, bytes, strobed} <= {destination, destination + 16'(length), length, 8'd0};
        alone <= quiet && !nothing;
      end
      if (written && alone && !(valid && ready)) begin
        strobed <= strobed + 8'(wstrb[0]) + 8'(wstrb[1]) + 8'(wstrb[2]) + 8'(wstrb[3]);
        for (i = 0; i < 4; i = i + 1) if (wstrb[i]) assert (place + 16'(i) >= from && place + 16'(i) - from < 16'(bytes));
      end

      // Outcomes.
      if (outcome_valid && outcome_ready && alone && outcome_last && !halt) assert (strobed == bytes);
      if (outcome_valid) assert (bursts == '0 || answers != '0 || alone == 1'b0 || nothing);
      if (quiet) assert (bursts == answers && committed == '0);
      if ($past(rst_n && halt) && $past(rst_n && halt, 2) && !$past(awvalid)) assert (!awvalid);
      cover (outcome_valid && outcome_last && alone && bytes == 8'd10 && from[1:0] == 2'd3);
      cover (outcome_valid && outcome_resp == 2'b10 && bursts == 8'd3);
    end
  end

  wire unused = &{1'b0, owed, single, to, starved, awfixed, wdata, outcome_tag};
endmodule

`default_nettype wire
