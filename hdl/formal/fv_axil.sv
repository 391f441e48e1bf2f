`default_nettype none

`include "axi_ports.svh"

// Proves the AXI-Lite slave: one response per access, in order and held until accepted, and one strobe per write, with a mask
// of the bits that it covers.
module fv_axil (
    `AXIL_PORTS(, )
    input wire clk,
    input wire rst_n
);
  logic write, read;
  logic [31:0] write_addr, write_mask, write_data, read_addr;
  // A register block in which every register reads as its inverted address.
  axil_slave dut (
      .clk,
      .rst_n,
      `AXIL_CONNECT(s_axil_, , ),
      .write,
      .write_addr,
      .write_mask,
      .write_data,
      .read,
      .read_addr,
      .read_data(~read_addr)
  );

  logic past = 1'b0;
  (* anyconst *)
  logic [7:0] watch;
  logic [7:0] addresses, data, strobes, answers, asked, given;
  logic [31:0] watch_addr, watch_mask, watch_data, watch_read;
  wire [31:0] mask = {{8{wstrb[3]}}, {8{wstrb[2]}}, {8{wstrb[1]}}, {8{wstrb[0]}}};

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {addresses, data, strobes, answers, asked, given} <= '0;
    end else if (past) begin
      if ($past(rst_n && awvalid && !awready)) assume (awvalid && $stable(awaddr));
      if ($past(rst_n && wvalid && !wready)) assume (wvalid && $stable({wdata, wstrb}));
      if ($past(rst_n && arvalid && !arready)) assume (arvalid && $stable(araddr));
      assume (addresses < 8'd250 && data < 8'd250 && asked < 8'd250);

      if (awvalid && awready) addresses <= addresses + 1'b1;
      if (awvalid && awready && addresses == watch) watch_addr <= awaddr;
      if (wvalid && wready) data <= data + 1'b1;
      if (wvalid && wready && data == watch) {watch_mask, watch_data} <= {mask, wdata & mask};
      if (write) strobes <= strobes + 1'b1;
      if (bvalid && bready) answers <= answers + 1'b1;
      if (arvalid && arready) asked <= asked + 1'b1;
      if (arvalid && arready && asked == watch) watch_read <= araddr;
      if (rvalid && rready) given <= given + 1'b1;

      if ($past(rst_n && bvalid && !bready)) assert (bvalid);
      if ($past(rst_n && rvalid && !rready)) assert (rvalid && $stable(rdata));
      assert (strobes == answers + 8'(bvalid));
      if (write) assert (strobes < addresses && strobes < data);
      if (write && strobes == watch) begin
        assert (write_addr == watch_addr && write_mask == watch_mask && write_data == watch_data);
      end
      if (rvalid) assert (given < asked);
      if (rvalid && given == watch) assert (rdata == ~watch_read);
      assert (bresp == 2'b00 && rresp == 2'b00);
      cover (answers == 8'd2 && given == 8'd2);
    end
  end
endmodule

`default_nettype wire
