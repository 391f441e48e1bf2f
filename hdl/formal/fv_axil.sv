`default_nettype none

// AXI-Lite: one answer for each access, in order, offered until it is taken; one strobe for each whole write.
module fv_axil (
    input wire        clk,
    input wire        rst_n,
    input wire [31:0] awaddr,
    input wire        awvalid,
    input wire [31:0] wdata,
    input wire [ 3:0] wstrb,
    input wire        wvalid,
    input wire        bready,
    input wire [31:0] araddr,
    input wire        arvalid,
    input wire        rready
);
  logic awready, wready, bvalid, arready, rvalid, write, read;
  logic [1:0] bresp, rresp;
  logic [31:0] rdata, write_addr, write_data, read_addr;
  // A register block whose registers hold their addresses.
  axil_slave dut (
      .clk,
      .rst_n,
      .s_axil_awaddr(awaddr),
      .s_axil_awvalid(awvalid),
      .s_axil_awready(awready),
      .s_axil_wdata(wdata),
      .s_axil_wstrb(wstrb),
      .s_axil_wvalid(wvalid),
      .s_axil_wready(wready),
      .s_axil_bresp(bresp),
      .s_axil_bvalid(bvalid),
      .s_axil_bready(bready),
      .s_axil_araddr(araddr),
      .s_axil_arvalid(arvalid),
      .s_axil_arready(arready),
      .s_axil_rdata(rdata),
      .s_axil_rresp(rresp),
      .s_axil_rvalid(rvalid),
      .s_axil_rready(rready),
      .write,
      .write_addr,
      .write_data,
      .read,
      .read_addr,
      .read_data(~read_addr)
  );

  logic past = 1'b0;
  (* anyconst *)
  logic [7:0] watch;
  logic [7:0] addresses, data, strobes, answers, asked, given;
  logic [31:0] watch_addr, watch_data, watch_read;

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {addresses, data, strobes, answers, asked, given} <= '0;
    end else if (past) begin
      if ($past(rst_n && awvalid && !awready)) assume (awvalid && $stable(awaddr));
      if ($past(rst_n && wvalid && !wready)) assume (wvalid && $stable({wdata, wstrb}));
      if ($past(rst_n && arvalid && !arready)) assume (arvalid && $stable(araddr));
      if (wvalid) assume (wstrb == 4'hf);
      assume (addresses < 8'd250 && data < 8'd250 && asked < 8'd250);

      if (awvalid && awready) addresses <= addresses + 1'b1;
      if (awvalid && awready && addresses == watch) watch_addr <= awaddr;
      if (wvalid && wready) data <= data + 1'b1;
      if (wvalid && wready && data == watch) watch_data <= wdata;
      if (write) strobes <= strobes + 1'b1;
      if (bvalid && bready) answers <= answers + 1'b1;
      if (arvalid && arready) asked <= asked + 1'b1;
      if (arvalid && arready && asked == watch) watch_read <= araddr;
      if (rvalid && rready) given <= given + 1'b1;

      if ($past(rst_n && bvalid && !bready)) assert (bvalid);
      if ($past(rst_n && rvalid && !rready)) assert (rvalid && $stable(rdata));
      assert (strobes == answers + 8'(bvalid));
      if (write) assert (strobes < addresses && strobes < data);
      if (write && strobes == watch) assert (write_addr == watch_addr && write_data == watch_data);
      if (rvalid) assert (given < asked);
      if (rvalid && given == watch) assert (rdata == ~watch_read);
      assert (bresp == 2'b00 && rresp == 2'b00);
      cover (answers == 8'd2 && given == 8'd2);
    end
  end
endmodule

`default_nettype wire
