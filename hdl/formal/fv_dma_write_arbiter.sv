`default_nettype none

`include "axi_ports.svh"

// Proves the arbiter of a write port with two clients: AXI4's rules for the master, bursts in the order in which they were taken and
// with the ID of their client, the data of each from its client and with WLAST at its end, no more under way than allowed, and every
// response to the client of its ID. On a dead port, nothing new is sent, and the bursts under way end without strobes.
module fv_dma_write_arbiter (
    input wire       clk,
    input wire       rst_n,
    input wire [5:0] c_awaddr,
    input wire [1:0] c_awfixed,
    input wire [1:0] c_awvalid,
    input wire [1:0] c_wvalid,
    input wire [5:0] from_0,
    input wire [5:0] from_1,
    input wire       awready,
    input wire       wready,
    input wire       bid,
    input wire [1:0] bresp,
    input wire       bvalid,
    input wire       dead
);
  localparam int WRITES = 2;
  (* anyconst *)
  logic [3:0] watched;
  logic [1:0] c_awready, c_wready, c_bresp, c_bvalid, awburst, wstrb;
  logic awid, awvalid, wlast, wvalid, bready, quiet, progress;
  logic [2:0] awsize, awaddr;
  logic [7:0] awlen;
  logic [15:0] wdata;
  // A burst has up to three beats. Data says which client it is from.
  wire [15:0] c_awlen = {6'd0, c_awaddr[4:3], 6'd0, c_awaddr[1:0]};
  wire [31:0] c_wdata = {8'd1, 2'd0, from_1, 8'd0, 2'd0, from_0};
  wire [3:0] c_wstrb = 4'b1111;
  dma_write_arbiter #(
      .N(2),
      .DATA_W(16),
      .ADDR_W(3),
      .ID_W(1),
      .WRITES(WRITES)
  ) dut (
      `AXI4_WRITE_CONNECT(m_axi_,,),
      .*
  );

  logic past = 1'b0;
  // Bursts that were taken, whose address was sent, whose data is complete; beats taken and sent. The watched ones are followed.
  logic [3:0] asked, sent, ended, read, written;
  logic [12:0] burst;
  logic [14:0] beat;
  logic [7:0] place;  // beat of the burst
  logic [15:0] owner;  // the client of each burst
  // Bursts without response, and those whose data is complete, by client.
  logic [1:0] owed[0:1], done[0:1];
  wire complete = wvalid && wready && wlast;
  wire [1:0] take = c_awvalid & c_awready;
  wire who = take[1];
  wire [1:0] taken_data = c_wvalid & c_wready;

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {asked, sent, ended, read, written, place} <= '0;
      {owed[0], owed[1], done[0], done[1]} <= '0;
    end else if (past) begin
      // The clients and the slave.
      if ($past(rst_n)) begin
        if ($past(c_awvalid[0] && !c_awready[0])) assume (c_awvalid[0] && $stable({c_awaddr[2:0], c_awfixed[0]}));
        if ($past(c_awvalid[1] && !c_awready[1])) assume (c_awvalid[1] && $stable({c_awaddr[5:3], c_awfixed[1]}));
        if ($past(c_wvalid[0] && !c_wready[0])) assume (c_wvalid[0] && $stable(from_0));
        if ($past(c_wvalid[1] && !c_wready[1])) assume (c_wvalid[1] && $stable(from_1));
        if ($past(dead)) assume (dead);
      end
      assume (c_awlen[1:0] != 2'd3 && c_awlen[9:8] != 2'd3);
      // A response follows address and data.
      assume (!bvalid || (done[bid] != '0 && owed[bid] != '0));

      // Addresses.
      assert (take != 2'b11);
      assume (asked != 4'd15);
      if (take != '0) begin
        asked <= asked + 1'b1;
        owner[asked] <= who;
      end
      if (take != '0 && asked == watched)
        burst <= {who, who ? c_awaddr[5:3] : c_awaddr[2:0], who ? c_awlen[15:8] : c_awlen[7:0], c_awfixed[who]};
      if (awvalid && awready) sent <= sent + 1'b1;
      if (awvalid) assert (sent != asked && awsize == 3'd1);
      if (awvalid && sent == watched) assert (burst == {awid, awaddr, awlen, awburst == 2'b00});
      if ($past(rst_n && awvalid && !awready)) assert (awvalid && $stable({awid, awaddr, awlen, awburst}));
      owed[0] <= owed[0] + 2'(awvalid && awready && !awid) - 2'(bvalid && !bid);
      owed[1] <= owed[1] + 2'(awvalid && awready && awid) - 2'(bvalid && bid);
      assert (3'(owed[0]) + 3'(owed[1]) <= 3'(WRITES) && bready);
      if (dead) assert (take == '0 && c_wready == '0 && c_bvalid == '0);

      // Data.
      assert (taken_data != 2'b11);
      if (wvalid) assert (ended != asked);
      if ($past(rst_n && wvalid && !wready)) assert (wvalid && $stable({wdata, wstrb, wlast}));
      if (taken_data != '0) read <= read + 1'b1;
      if (taken_data != '0 && read == watched) beat <= {8'(taken_data[1]), 1'b1, taken_data[1] ? from_1 : from_0};
      if (wvalid && wready) begin
        written <= written + 1'b1;
        place <= wlast ? '0 : place + 1'b1;
        if (wlast) ended <= ended + 1'b1;
      end
      if (wvalid && wstrb != '0) assert (wstrb == 2'b11 && written != read);
      if (wvalid && wstrb != '0 && written == watched) assert ({wdata[15:8], wdata[5:0]} == {beat[14:7], beat[5:0]});
      if (wvalid && ended == watched) begin
        assert (wlast == (place == burst[8:1]));
        if (wstrb != '0) assert (wdata[8] == burst[12]);
      end
      if (wvalid && wstrb == '0) assert ($past(dead) || $past(dead, 2) || dead);

      // Responses.
      done[0] <= done[0] + 2'(complete && !owner[ended]) - 2'(bvalid && !bid);
      done[1] <= done[1] + 2'(complete && owner[ended]) - 2'(bvalid && bid);
      assert (c_bvalid == (($past(rst_n && bvalid) && !dead) ? 2'b01 << $past(bid) : 2'b00));
      if (c_bvalid != '0) assert (c_bresp == $past(bresp));
      if (quiet) assert (owed[0] == '0 && owed[1] == '0 && !awvalid && !wvalid && c_bvalid == '0);
      cover (c_bvalid[1] && sent == 4'd3 && ended == 4'd3);
      cover (wvalid && wlast && place == 8'd2 && wdata[8] && asked == 4'd3);
      cover (dead && wvalid && wready && wlast && wstrb == '0 && place == 8'd2);
    end
  end

  wire unused = &{1'b0, progress, beat[6]};
endmodule

`default_nettype wire
