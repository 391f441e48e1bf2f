`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// Joins two AXI4 masters, `a` and `b`, to one slave. The top bit of the slave's IDs is the master. Addresses are granted in turn, and
// write data follows in the order of its addresses.
module axi_join #(
    parameter int DATA_W = 512,
    parameter int ADDR_W = 64,
    // Of the masters.
    parameter int ID_W = 16,
    // Write bursts that can be under way between address and last data.
    parameter int QUEUE = 16
) (
    input wire clk,
    `AXI4_WRITE_PORTS(a_axi_, a_axi_, ID_W, ADDR_W, DATA_W)
    `AXI4_READ_PORTS(a_axi_, a_axi_, ID_W, ADDR_W, DATA_W)
    `AXI4_WRITE_PORTS(b_axi_, b_axi_, ID_W, ADDR_W, DATA_W)
    `AXI4_READ_PORTS(b_axi_, b_axi_, ID_W, ADDR_W, DATA_W)
    `AXI4_WRITE_MASTER_PORTS(m_axi_, ID_W + 1, ADDR_W, DATA_W)
    `AXI4_READ_MASTER_PORTS(m_axi_, ID_W + 1, ADDR_W, DATA_W)
    input wire rst_n
);
  `PARAMETER_CHECK(axi_join_DATA_W, DATA_W >= 8 && DATA_W % 8 == 0, "axi_join: DATA_W must be a multiple of 8")
  `PARAMETER_CHECK(axi_join_ADDR_W, ADDR_W >= 1, "axi_join: ADDR_W must be at least 1")
  `PARAMETER_CHECK(axi_join_ID_W, ID_W >= 1, "axi_join: ID_W must be at least 1")
  `PARAMETER_CHECK(axi_join_QUEUE, QUEUE >= 1, "axi_join: QUEUE must be at least 1")

  localparam int A_W = 1 + ID_W + ADDR_W + 8 + 3 + 2;
  localparam int W_W = DATA_W + DATA_W / 8 + 1;

  // Addresses of writes.
  logic aw_room, order_room, aw_last, w_owner, w_known;
  wire aw_pick = b_axi_awvalid && !(a_axi_awvalid && aw_last);
  wire aw_go = (a_axi_awvalid || b_axi_awvalid) && aw_room && order_room;
  assign a_axi_awready = aw_room && order_room && !aw_pick;
  assign b_axi_awready = aw_room && order_room && aw_pick;
  skid #(
      .W(A_W)
  ) u_aw (
      .clk,
      .rst_n,
      .s_data(aw_pick ?
          {1'b1, b_axi_awid, b_axi_awaddr, b_axi_awlen, b_axi_awsize, b_axi_awburst} :
          {1'b0, a_axi_awid, a_axi_awaddr, a_axi_awlen, a_axi_awsize, a_axi_awburst}),
      .s_valid(aw_go),
      .s_ready(aw_room),
      .m_data({m_axi_awid, m_axi_awaddr, m_axi_awlen, m_axi_awsize, m_axi_awburst}),
      .m_valid(m_axi_awvalid),
      .m_ready(m_axi_awready)
  );

  // Data.
  logic w_room;
  logic [$clog2(QUEUE+1)-1:0] order_level;
  wire w_valid = w_known && (w_owner ? b_axi_wvalid : a_axi_wvalid);
  wire w_last = w_owner ? b_axi_wlast : a_axi_wlast;
  assign a_axi_wready = w_known && !w_owner && w_room;
  assign b_axi_wready = w_known && w_owner && w_room;
  sfifo #(
      .W(1),
      .D(QUEUE)
  ) u_order (
      .clk,
      .rst_n,
      .flush  (1'b0),
      .s_data (aw_pick),
      .s_valid(aw_go),
      .s_ready(order_room),
      .m_data (w_owner),
      .m_valid(w_known),
      .m_ready(w_valid && w_room && w_last),
      .level  (order_level)
  );
  skid #(
      .W(W_W)
  ) u_w (
      .clk,
      .rst_n,
      .s_data(w_owner ? {b_axi_wdata, b_axi_wstrb, b_axi_wlast} : {a_axi_wdata, a_axi_wstrb, a_axi_wlast}),
      .s_valid(w_valid),
      .s_ready(w_room),
      .m_data({m_axi_wdata, m_axi_wstrb, m_axi_wlast}),
      .m_valid(m_axi_wvalid),
      .m_ready(m_axi_wready)
  );

  // Responses to writes.
  wire b_owner = m_axi_bid[ID_W];
  assign a_axi_bid = m_axi_bid[ID_W-1:0];
  assign b_axi_bid = m_axi_bid[ID_W-1:0];
  assign a_axi_bresp = m_axi_bresp;
  assign b_axi_bresp = m_axi_bresp;
  assign a_axi_bvalid = m_axi_bvalid && !b_owner;
  assign b_axi_bvalid = m_axi_bvalid && b_owner;
  assign m_axi_bready = b_owner ? b_axi_bready : a_axi_bready;

  // Reads.
  logic ar_room, ar_last;
  wire ar_pick = b_axi_arvalid && !(a_axi_arvalid && ar_last);
  wire ar_go = (a_axi_arvalid || b_axi_arvalid) && ar_room;
  assign a_axi_arready = ar_room && !ar_pick;
  assign b_axi_arready = ar_room && ar_pick;
  skid #(
      .W(A_W)
  ) u_ar (
      .clk,
      .rst_n,
      .s_data(ar_pick ?
          {1'b1, b_axi_arid, b_axi_araddr, b_axi_arlen, b_axi_arsize, b_axi_arburst} :
          {1'b0, a_axi_arid, a_axi_araddr, a_axi_arlen, a_axi_arsize, a_axi_arburst}),
      .s_valid(ar_go),
      .s_ready(ar_room),
      .m_data({m_axi_arid, m_axi_araddr, m_axi_arlen, m_axi_arsize, m_axi_arburst}),
      .m_valid(m_axi_arvalid),
      .m_ready(m_axi_arready)
  );
  wire r_owner = m_axi_rid[ID_W];
  assign a_axi_rid = m_axi_rid[ID_W-1:0];
  assign b_axi_rid = m_axi_rid[ID_W-1:0];
  assign a_axi_rdata = m_axi_rdata;
  assign b_axi_rdata = m_axi_rdata;
  assign a_axi_rresp = m_axi_rresp;
  assign b_axi_rresp = m_axi_rresp;
  assign a_axi_rlast = m_axi_rlast;
  assign b_axi_rlast = m_axi_rlast;
  assign a_axi_rvalid = m_axi_rvalid && !r_owner;
  assign b_axi_rvalid = m_axi_rvalid && r_owner;
  assign m_axi_rready = r_owner ? b_axi_rready : a_axi_rready;

  always_ff @(posedge clk) begin
    if (!rst_n) begin
      {aw_last, ar_last} <= '0;
    end else begin
      if (aw_go) aw_last <= aw_pick;
      if (ar_go) ar_last <= ar_pick;
    end
  end

  wire unused = &{1'b0, order_level};
endmodule

`default_nettype wire
