`default_nettype none

`include "axi_ports.svh"

// Proves axi_join: addresses arrive in the order in which they were taken, unchanged and with the ID of their
// master; write data follows in that order, each burst from its master and none before its address was taken; responses go to the
// master of their ID; and a master that waits is served after at most one request of the other.
module fv_axi_join (
    input wire clk,
    `AXI4_WRITE_PORTS(a_, a_, 1, 2, 8)
    `AXI4_READ_PORTS(a_, a_, 1, 2, 8)
    `AXI4_WRITE_PORTS(b_, b_, 1, 2, 8)
    `AXI4_READ_PORTS(b_, b_, 1, 2, 8)
    `AXI4_WRITE_MASTER_PORTS(m_, 2, 2, 8)
    `AXI4_READ_MASTER_PORTS(m_, 2, 2, 8)
    input wire rst_n
);
  axi_join #(
      .DATA_W(8),
      .ADDR_W(2),
      .ID_W(1),
      .QUEUE(2)
  ) dut (
      .clk,
      .rst_n,
      `AXI4_WRITE_CONNECT(a_axi_, a_, a_),
      `AXI4_READ_CONNECT(a_axi_, a_, a_),
      `AXI4_WRITE_CONNECT(b_axi_, b_, b_),
      `AXI4_READ_CONNECT(b_axi_, b_, b_),
      `AXI4_WRITE_CONNECT(m_axi_, m_, m_),
      `AXI4_READ_CONNECT(m_axi_, m_, m_)
  );

  logic past = 1'b0;
  (* anyconst *)
  logic [3:0] watched;
  // Counts: requests taken and sent, beats taken and sent, and bursts whose data was taken. The watched request and beat are
  // followed.
  logic [3:0] aw_in, aw_out, ar_in, ar_out, w_in, w_out, bursts;
  logic [16:0] write, read;
  logic [ 9:0] beat;
  logic [15:0] owner;  // the master of each burst
  // A master was passed over once while it waited.
  logic [ 1:0] aw_passed, ar_passed;
  wire [16:0] a_aw = {1'b0, a_awid, a_awaddr, a_awlen, a_awsize, a_awburst};
  wire [16:0] b_aw = {1'b1, b_awid, b_awaddr, b_awlen, b_awsize, b_awburst};
  wire [16:0] a_ar = {1'b0, a_arid, a_araddr, a_arlen, a_arsize, a_arburst};
  wire [16:0] b_ar = {1'b1, b_arid, b_araddr, b_arlen, b_arsize, b_arburst};
  wire [1:0] aw_take = {b_awvalid && b_awready, a_awvalid && a_awready};
  wire [1:0] ar_take = {b_arvalid && b_arready, a_arvalid && a_arready};
  wire [1:0] w_take = {b_wvalid && b_wready, a_wvalid && a_wready};
  wire [9:0] w_taken = w_take[1] ? {b_wdata, b_wstrb, b_wlast} : {a_wdata, a_wstrb, a_wlast};

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {aw_in, aw_out, ar_in, ar_out, w_in, w_out, bursts} <= '0;
      {aw_passed, ar_passed} <= '0;
    end else if (past) begin
      // The masters and the slave.
      if ($past(rst_n)) begin
        if ($past(a_awvalid && !a_awready)) assume (a_awvalid && $stable(a_aw));
        if ($past(b_awvalid && !b_awready)) assume (b_awvalid && $stable(b_aw));
        if ($past(a_arvalid && !a_arready)) assume (a_arvalid && $stable(a_ar));
        if ($past(b_arvalid && !b_arready)) assume (b_arvalid && $stable(b_ar));
        if ($past(a_wvalid && !a_wready)) assume (a_wvalid && $stable({a_wdata, a_wstrb, a_wlast}));
        if ($past(b_wvalid && !b_wready)) assume (b_wvalid && $stable({b_wdata, b_wstrb, b_wlast}));
      end
      assume (aw_in != 4'd15 && ar_in != 4'd15 && w_in != 4'd15);

      // Addresses of writes.
      assert (aw_take != 2'b11);
      if (aw_take != '0) begin
        aw_in <= aw_in + 1'b1;
        owner[aw_in] <= aw_take[1];
        if (aw_in == watched) write <= aw_take[1] ? b_aw : a_aw;
      end
      if (m_awvalid) assert (aw_out != aw_in);
      if (m_awvalid && aw_out == watched) assert (write == {m_awid, m_awaddr, m_awlen, m_awsize, m_awburst});
      if ($past(rst_n && m_awvalid && !m_awready))
        assert (m_awvalid && $stable({m_awid, m_awaddr, m_awlen, m_awsize, m_awburst}));
      if (m_awvalid && m_awready) aw_out <= aw_out + 1'b1;
      aw_passed[0] <= a_awvalid && !a_awready && (aw_take[1] || aw_passed[0]);
      aw_passed[1] <= b_awvalid && !b_awready && (aw_take[0] || aw_passed[1]);
      assert (!(aw_take[0] && aw_passed[1]) && !(aw_take[1] && aw_passed[0]));
      if (aw_in == aw_out && aw_in == bursts && (a_awvalid || b_awvalid)) assert (aw_take != '0);

      // Data.
      assert (w_take != 2'b11);
      if (w_take != '0) begin
        assert (bursts != aw_in && w_take[1] == owner[bursts]);
        w_in <= w_in + 1'b1;
        if (w_in == watched) beat <= w_taken;
        if (w_taken[0]) bursts <= bursts + 1'b1;
      end
      if (m_wvalid) assert (w_out != w_in);
      if (m_wvalid && w_out == watched) assert (beat == {m_wdata, m_wstrb, m_wlast});
      if ($past(rst_n && m_wvalid && !m_wready)) assert (m_wvalid && $stable({m_wdata, m_wstrb, m_wlast}));
      if (m_wvalid && m_wready) w_out <= w_out + 1'b1;
      // The data of a burst whose address was taken waits only for the slave.
      if ($past(rst_n && bursts != aw_in) && bursts != aw_in && w_in == w_out && (owner[bursts] ? b_wvalid : a_wvalid))
        assert (w_take != '0 || $past(w_take != '0) || $past(aw_take != '0));

      // Responses to writes.
      assert ({b_bvalid, a_bvalid} == (m_bvalid ? 2'b01 << m_bid[1] : 2'b00));
      if (m_bvalid) assert (m_bready == (m_bid[1] ? b_bready : a_bready));
      if (a_bvalid) assert ({a_bid, a_bresp} == {m_bid[0], m_bresp});
      if (b_bvalid) assert ({b_bid, b_bresp} == {m_bid[0], m_bresp});

      // Reads.
      assert (ar_take != 2'b11);
      if (ar_take != '0) begin
        ar_in <= ar_in + 1'b1;
        if (ar_in == watched) read <= ar_take[1] ? b_ar : a_ar;
      end
      if (m_arvalid) assert (ar_out != ar_in);
      if (m_arvalid && ar_out == watched) assert (read == {m_arid, m_araddr, m_arlen, m_arsize, m_arburst});
      if ($past(rst_n && m_arvalid && !m_arready))
        assert (m_arvalid && $stable({m_arid, m_araddr, m_arlen, m_arsize, m_arburst}));
      if (m_arvalid && m_arready) ar_out <= ar_out + 1'b1;
      ar_passed[0] <= a_arvalid && !a_arready && (ar_take[1] || ar_passed[0]);
      ar_passed[1] <= b_arvalid && !b_arready && (ar_take[0] || ar_passed[1]);
      assert (!(ar_take[0] && ar_passed[1]) && !(ar_take[1] && ar_passed[0]));
      if (ar_in == ar_out && (a_arvalid || b_arvalid)) assert (ar_take != '0);
      assert ({b_rvalid, a_rvalid} == (m_rvalid ? 2'b01 << m_rid[1] : 2'b00));
      if (m_rvalid) assert (m_rready == (m_rid[1] ? b_rready : a_rready));
      if (a_rvalid) assert ({a_rid, a_rdata, a_rresp, a_rlast} == {m_rid[0], m_rdata, m_rresp, m_rlast});
      if (b_rvalid) assert ({b_rid, b_rdata, b_rresp, b_rlast} == {m_rid[0], m_rdata, m_rresp, m_rlast});

      cover (bursts == 4'd3 && w_out == 4'd5 && owner[0] && !owner[1] && owner[2]);
      cover (ar_out == 4'd4 && ar_passed[0] && $past(ar_passed[1], 2));
    end
  end
endmodule

`default_nettype wire
