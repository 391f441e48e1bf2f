`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// Divides an AXI4-Lite port in two: `low` has the addresses below `2^BITS`, and `high` the others, from 0 on. One write and one read
// are under way at a time.
module axil_split #(
    parameter int BITS = 16
) (
    input wire clk,
    `AXIL_PORTS(s_axil_, s_axil_)
    `AXIL_MASTER_PORTS(low_)
    `AXIL_MASTER_PORTS(high_)
    input wire rst_n
);
  `PARAMETER_CHECK(axil_split_BITS, BITS >= 2 && BITS <= 31, "axil_split: BITS must be 2 to 31")

  localparam logic [31:0] HIGH = 32'd1 << BITS;

  // A write: the address and the data are taken together, sent, and answered.
  logic writing, write_high, aw_sent, w_sent;
  logic [31:0] write_addr, write_data;
  logic [3:0] write_strb;
  wire write_take = s_axil_awvalid && s_axil_wvalid && !writing;
  wire aw_ready = write_high ? high_awready : low_awready;
  wire w_ready = write_high ? high_wready : low_wready;
  wire write_done = s_axil_bvalid && s_axil_bready;
  assign s_axil_awready = write_take;
  assign s_axil_wready = write_take;
  assign {low_awaddr, low_wdata, low_wstrb} = {write_addr, write_data, write_strb};
  assign {high_awaddr, high_wdata, high_wstrb} = {write_addr - HIGH, write_data, write_strb};
  assign low_awvalid = writing && !write_high && !aw_sent;
  assign high_awvalid = writing && write_high && !aw_sent;
  assign low_wvalid = writing && !write_high && !w_sent;
  assign high_wvalid = writing && write_high && !w_sent;
  assign s_axil_bvalid = writing && (write_high ? high_bvalid : low_bvalid);
  assign s_axil_bresp = write_high ? high_bresp : low_bresp;
  assign low_bready = writing && !write_high && s_axil_bready;
  assign high_bready = writing && write_high && s_axil_bready;

  // A read.
  logic reading, read_high, ar_sent;
  logic [31:0] read_addr;
  wire read_take = s_axil_arvalid && !reading;
  wire ar_ready = read_high ? high_arready : low_arready;
  wire read_done = s_axil_rvalid && s_axil_rready;
  assign s_axil_arready = !reading;
  assign low_araddr = read_addr;
  assign high_araddr = read_addr - HIGH;
  assign low_arvalid = reading && !read_high && !ar_sent;
  assign high_arvalid = reading && read_high && !ar_sent;
  assign s_axil_rvalid = reading && (read_high ? high_rvalid : low_rvalid);
  assign s_axil_rdata = read_high ? high_rdata : low_rdata;
  assign s_axil_rresp = read_high ? high_rresp : low_rresp;
  assign low_rready = reading && !read_high && s_axil_rready;
  assign high_rready = reading && read_high && s_axil_rready;

  always_ff @(posedge clk) begin
    if (write_take) begin
      write_addr <= s_axil_awaddr;
      write_data <= s_axil_wdata;
      write_strb <= s_axil_wstrb;
      write_high <= s_axil_awaddr >= HIGH;
    end
    if (read_take) begin
      read_addr <= s_axil_araddr;
      read_high <= s_axil_araddr >= HIGH;
    end
    if (!rst_n) begin
      {writing, aw_sent, w_sent, reading, ar_sent} <= '0;
    end else begin
      writing <= write_take || (writing && !write_done);
      aw_sent <= writing && !write_done && (aw_sent || aw_ready);
      w_sent  <= writing && !write_done && (w_sent || w_ready);
      reading <= read_take || (reading && !read_done);
      ar_sent <= reading && !read_done && (ar_sent || ar_ready);
    end
  end
endmodule

`default_nettype wire
