`default_nettype none

// Proves the read half of a mover with beats of four bytes: no request without reserved room for all its beats, none that crosses
// a multiple of its size (and with it 4 KiB), responses accepted at once but for one cycle, and every byte of a descriptor in the
// right place of the buffer. The host returns data in order, after any time. Byte A of its memory has the value A.
module fv_dma_read (
    input wire        clk,
    input wire        rst_n,
    input wire [15:0] source,
    input wire [ 1:0] destination,
    input wire [ 7:0] length,
    input wire        valid,
    input wire        halt,
    input wire        arready,
    input wire        rvalid,
    input wire        rlast,
    input wire        released
);
  localparam int BUFFER = 10;
  (* anyconst *)
  logic [1:0] size;
  logic quiet, ready, arfixed, arvalid, rready, m_valid;
  logic [15:0] araddr;
  logic [7:0] arlen;
  logic [31:0] rdata, m_data;
  logic [1:0] m_resp;

  dma_read #(
      .DATA_W(32),
      .ADDR_W(16),
      .LEN_W (8),
      .READS (2),
      .BUFFER(BUFFER)
  ) dut (
      .fixed(1'b0),
      .dead (1'b0),
      .rresp(2'b00),
      .*
  );

  // The requests under way, at most two.
  logic [15:0] addr[0:1];
  logic [7:0] len[0:1];
  logic [1:0] level;
  logic [7:0] beat;
  wire sent = arvalid && arready;
  wire received = rvalid && rready;
  wire [15:0] at = {addr[0][15:2], 2'b00} + {6'd0, beat, 2'b00};
  assign rdata = {at[7:0] + 8'd3, at[7:0] + 8'd2, at[7:0] + 8'd1, at[7:0]};

  // The beats in the buffer, and what requests add at least, less what was released: a request of N beats adds N - 1 or more.
  logic [7:0] stored;
  logic signed [7:0] reserved;
  wire [7:0] asked = arlen + 1'b1;
  logic halted;

  // The descriptor under way, if it is the only one, and the beat that comes next.
  logic [15:0] first;
  logic [7:0] bytes, number;
  logic [1:0] lane;
  logic single;
  wire [9:0] place = {number, 2'b00};  // of the beat's first lane

  logic past = 1'b0, refused;
  wire [15:0] limit = 16'd8 << size;
  integer i;
  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    assume (size != 2'd3);
    if (!rst_n) begin
      {level, beat, stored, reserved, number, refused, single, halted} <= '0;
    end else if (past) begin
      // The environment.
      if (valid) assume (length != '0 && {1'b0, source} + 17'(length) <= 17'h10000);
      if ($past(rst_n && valid && !ready && !halt)) assume (valid && $stable({source, destination, length}));
      if ($past(rst_n && halt)) assume (halt);
      if ($past(rst_n && rvalid && !rready)) assume (rvalid && $stable(rlast));
      assume (!rvalid || level != '0);
      assume (rlast == (beat == len[0]));
      assume (!released || stored != '0);

      if (sent && received && rlast) begin
        addr[0] <= (level == 2'd1) ? araddr : addr[1];
        len[0]  <= (level == 2'd1) ? arlen : len[1];
        addr[1] <= araddr;
        len[1]  <= arlen;
      end else if (received && rlast) begin
        addr[0] <= addr[1];
        len[0]  <= len[1];
        level   <= level - 1'b1;
      end else if (sent) begin
        addr[level[0]] <= araddr;
        len[level[0]]  <= arlen;
        level <= level + 1'b1;
      end
      if (received) beat <= rlast ? '0 : beat + 1'b1;
      stored  <= stored + 8'(m_valid) - 8'(released);
      refused <= rvalid && !rready;
      reserved <= reserved + (sent ? $signed(arlen) : 8'sd0) - (released ? 8'sd1 : 8'sd0);
      halted <= halted || halt;

      // Requests.
      if ($past(rst_n && arvalid && !arready)) assert (arvalid && $stable({araddr, arlen}));
      if (arvalid) assert ((araddr & (limit - 1'b1)) + {6'd0, asked, 2'b00} - {14'd0, araddr[1:0]} <= limit);
      if (sent) assert (level < 2'd2);
      assert (stored <= 8'(BUFFER) && reserved <= 8'(BUFFER));
      // The response to a request that was sent never waits for long.
      if (refused) assert (!rvalid || rready);
      if ($past(rst_n && halt) && $past(rst_n && halt, 2) && !$past(arvalid)) assert (!arvalid);
      if (quiet) assert (level == '0);

      // Data.
      if (valid && ready) begin
        single <= quiet && stored == '0;
        {first, bytes, lane, number} <= {source, length, destination, 8'd0};
      end else if (m_valid) number <= number + 1'b1;
      if (m_valid && single) begin
        for (i = 0; i < 4; i = i + 1)
        if (place + 10'(i) >= 10'(lane) && place + 10'(i) < 10'(lane) + 10'(bytes))
          assert (m_data[8*i+:8] == first[7:0] + place[7:0] + 8'(i) - 8'(lane));
        assert (place < 10'(lane) + 10'(bytes));
      end
      if (quiet && single && !halted) assert (place >= 10'(lane) + 10'(bytes));
      cover (m_valid && single && number == 8'd2 && lane == 2'd1 && first[1:0] == 2'd3 && bytes == 8'd9);
      cover (stored == 8'(BUFFER));
      cover (arvalid && level == 2'd1 && asked == 8'd2);
    end
  end
endmodule

`default_nettype wire
