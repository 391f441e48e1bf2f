`default_nettype none

// Proves descriptor fetch: no request that crosses 4 KiB or exceeds the block, none without reserved room or without permission, no
// more descriptors than allowed, and descriptors in the order of the list and nothing after its end.
//
// The list is adjacent in memory. Descriptor number N, at address 32 N, has N in the lower bits of its length.
module fv_dma_fetch (
    input wire       clk,
    input wire       rst_n,
    input wire       start,
    input wire       permitted,
    input wire [9:0] allowance,
    input wire       halt,
    input wire       arready,
    input wire       rvalid,
    input wire       m_ready,
    input wire [5:0] next_adjacent
);
  localparam int FETCH = 14, BEATS = 8;
  (* anyconst *)
  logic [7:0] first;
  (* anyconst *)
  logic [5:0] first_adjacent;
  // The descriptor that ends the list, and whether with Stop or without the magic number.
  (* anyconst *)
  logic [7:0] last;
  (* anyconst *)
  logic bad;
  logic [6:0] requested;
  logic quiet, empty, arvalid, m_stop, m_completed, m_bad, m_failed, m_valid;
  logic [31:0] araddr, m_source, m_destination;
  logic [7:0] arlen;
  logic [27:0] m_length;

  logic [ 31:0] at;  // of the beat that is returned
  logic [  7:0] left;
  wire  [  7:0] lower = at[12:5];
  wire  [  7:0] upper = lower + 1'b1;
  wire          rlast = left == 8'd1;
  wire  [511:0] rdata = {descriptor(upper), descriptor(lower)};

  function automatic logic [255:0] descriptor(input logic [7:0] number);
    descriptor = '0;
    descriptor[223:192] = {19'd0, number + 8'd1, 5'd0};
    descriptor[39:32] = number;
    descriptor[31:16] = (number == last && bad) ? 16'h0 : xdma_regs_pkg::DESCRIPTOR_MAGIC;
    descriptor[13:8] = next_adjacent;
    descriptor[0] = number == last && !bad;
  endfunction

  dma_fetch #(
      .ADDR_W(32),
      .FETCH (FETCH),
      .BEATS (BEATS)
  ) dut (
      .first({19'd0, first, 5'd0}),
      .rresp(2'b00),
      .*
  );

  logic past = 1'b0, started;
  logic [7:0] expected;  // the next descriptor
  // Beats requested less descriptors taken. Each beat that left the buffer had one or two.
  logic signed [7:0] reserved;
  wire [7:0] beats = arlen + 1'b1;
  // Descriptors that follow the next one, as the list says.
  logic [5:0] following;

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {started, left, reserved} <= '0;
    end else if (past) begin
      assume (start == !started);
      started <= 1'b1;
      if ($past(rst_n && halt)) assume (halt);
      assume (!rvalid || left != '0);
      assume (allowance != '0);
      if (start) expected <= first;
      if (start) following <= first_adjacent;
      else if (rvalid) following <= next_adjacent;
      if (arvalid && arready) {at, left} <= {araddr[31:6], 6'd0, beats};
      else if (rvalid) {at, left} <= {at + 32'd64, left - 1'b1};

      // Requests.
      if ($past(rst_n && arvalid && !arready)) assert (arvalid && $stable({araddr, arlen}));
      if (arvalid) begin
        assert (araddr[4:0] == '0 && left == '0);
        assert ({1'b0, araddr[11:6], 6'd0} + {beats, 6'd0} <= 14'd4096);
      end
      if (requested != '0) begin
        assert (permitted && !halt && 10'(requested) <= allowance && quiet);
        assert (requested <= 7'(following) + 7'd1 && requested <= 7'(FETCH));
      end
      if (quiet) assert (!arvalid && left == '0);

      // Descriptors.
      if (m_valid) begin
        assert (m_length == {20'd0, expected});
        assert (m_stop == (expected == last && !bad) && m_bad == (expected == last && bad));
        assert (expected != last + 8'd1 || expected == first);
      end
      if (m_valid && m_ready) expected <= expected + 1'b1;
      reserved <= reserved + ((arvalid && arready) ? $signed(beats) : 8'sd0) - ((m_valid && m_ready) ? 8'sd1 : 8'sd0);
      assert (reserved <= $signed(8'(BEATS)));
      cover (m_valid && expected == first + 8'd5);
      cover (m_valid && m_bad && expected == first + 8'd2);
      cover (arvalid && beats == 8'(FETCH / 2 + 1));
      // Two requests, divided by a page.
      cover (arvalid && araddr[11:0] == '0 && expected[6:0] == 7'd127 && beats == 8'd2);
    end
  end

  wire unused = &{1'b0, empty, m_completed, m_failed, m_source, m_destination};
endmodule

`default_nettype wire
