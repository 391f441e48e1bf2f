`default_nettype none

`include "axi_ports.svh"

// Proves the arbiter of a read port with two clients: AXI4's rules for the master, requests in the order in which they were taken
// and with the ID of their client, no more under way than allowed, and every beat to the client of its ID, in order. The slave
// returns beats of any request under way. On a dead port, nothing new is sent and responses do not wait.
module fv_dma_read_arbiter (
    input wire       clk,
    input wire       rst_n,
    input wire [7:0] c_araddr,
    input wire [1:0] c_arfixed,
    input wire [1:0] c_arvalid,
    input wire [1:0] c_rready,
    input wire       arready,
    input wire       rid,
    input wire [1:0] rresp,
    input wire [7:0] data,
    input wire       rlast,
    input wire       rvalid,
    input wire       dead
);
  localparam int READS = 2;
  (* anyconst *)
  logic [3:0] watched;
  logic [1:0] c_arready, c_rvalid, c_rresp, arburst;
  logic [15:0] c_rdata;
  logic c_rlast, arid, arvalid, rready, quiet, progress;
  logic [2:0] arsize;
  logic [3:0] araddr;
  logic [7:0] arlen;
  wire [15:0] c_arlen = {4'd0, c_araddr[7:4], 4'd0, c_araddr[3:0]};
  wire [15:0] rdata = {8'd0, data};
  dma_read_arbiter #(
      .N(2),
      .DATA_W(16),
      .ADDR_W(4),
      .ID_W(1),
      .READS(READS)
  ) dut (
      `AXI4_READ_CONNECT(m_axi_,,),
      .*
  );

  logic past = 1'b0;
  // Requests and beats that went in and came out. The watched one is followed.
  logic [3:0] asked, sent, returned, delivered;
  logic [14:0] request;
  logic [11:0] beat;
  logic [1:0] owed[0:1];  // requests under way, by client
  wire [1:0] take = c_arvalid & c_arready;
  wire who = take[1];
  wire received = rvalid && rready;
  wire given = (c_rvalid & c_rready) != '0;

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {asked, sent, returned, delivered} <= '0;
      {owed[0], owed[1]} <= '0;
    end else if (past) begin
      // The clients and the slave.
      if ($past(rst_n)) begin
        if ($past(c_arvalid[0] && !c_arready[0])) assume (c_arvalid[0] && $stable({c_araddr[3:0], c_arfixed[0]}));
        if ($past(c_arvalid[1] && !c_arready[1])) assume (c_arvalid[1] && $stable({c_araddr[7:4], c_arfixed[1]}));
        if ($past(rvalid && !rready)) assume (rvalid && $stable({rid, rresp, data, rlast}));
        if ($past(dead)) assume (dead);
      end
      assume (!rvalid || owed[rid] != '0);

      // Requests.
      assert (take != 2'b11);
      if (take != '0) asked <= asked + 1'b1;
      if (take != '0 && asked == watched)
        request <= {who, who ? c_araddr[7:4] : c_araddr[3:0], who ? c_arlen[15:8] : c_arlen[7:0], c_arfixed[who], 1'b1};
      if (arvalid && arready) sent <= sent + 1'b1;
      if (arvalid) assert (sent != asked && arsize == 3'd1);
      if (arvalid && sent == watched) assert (request[14:1] == {arid, araddr, arlen, arburst == 2'b00});
      if ($past(rst_n && arvalid && !arready)) assert (arvalid && $stable({arid, araddr, arlen, arburst}));
      owed[0] <= owed[0] + 2'(arvalid && arready && !arid) - 2'(received && rlast && !rid);
      owed[1] <= owed[1] + 2'(arvalid && arready && arid) - 2'(received && rlast && rid);
      assert (3'(owed[0]) + 3'(owed[1]) <= 3'(READS));
      if (dead) assert (take == '0 && c_rvalid == '0);

      // Data.
      if (received) returned <= returned + 1'b1;
      if (received && returned == watched) beat <= {rid, rlast, rresp, data};
      if (given) delivered <= delivered + 1'b1;
      if (c_rvalid != '0) begin
        assert (c_rvalid != 2'b11 && delivered != returned);
        if (delivered == watched) assert (beat == {c_rvalid[1], c_rlast, c_rresp, c_rdata[7:0]});
      end
      // A response waits only for its client.
      if ($past(rst_n && (c_rready == 2'b11 || dead)) && $past(rst_n && (c_rready == 2'b11 || dead), 2)) assert (rready);
      if (quiet) assert (owed[0] == '0 && owed[1] == '0 && !arvalid && c_rvalid == '0);
      cover (delivered == 4'd2 && sent == 4'd3 && c_rvalid[1] && $past(c_rvalid[0] && c_rlast));
      cover (owed[0] == 2'd1 && owed[1] == 2'd1 && c_arvalid == 2'b11 && sent == 4'd3);
      cover (dead && received && rlast && sent == 4'd2);
    end
  end

  wire unused = &{1'b0, progress, c_rdata[15:8]};
endmodule

`default_nettype wire
