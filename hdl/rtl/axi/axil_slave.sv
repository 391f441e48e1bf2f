`default_nettype none

`include "axi_ports.svh"

// Converts AXI-Lite accesses to a write strobe and a read strobe.
module axil_slave (
    input wire clk,
    input wire rst_n,
    `AXIL_PORTS(s_axil_, s_axil_)

    output logic        write,
    output logic [31:0] write_addr,
    // The bits that the write covers. `write_data` is zero in the others.
    output logic [31:0] write_mask,
    output logic [31:0] write_data,
    output logic        read,
    output logic [31:0] read_addr,
    // Sampled in the same cycle as `read`.
    input  wire  [31:0] read_data
);
  logic aw_valid, w_valid, ar_valid;
  logic [3:0] strb;
  logic [31:0] data;
  wire b_free = !s_axil_bvalid || s_axil_bready;
  wire r_free = !s_axil_rvalid || s_axil_rready;
  wire write_go = aw_valid && w_valid && b_free;

  skid #(
      .W(32)
  ) u_aw (
      .clk,
      .rst_n,
      .s_data (s_axil_awaddr),
      .s_valid(s_axil_awvalid),
      .s_ready(s_axil_awready),
      .m_data (write_addr),
      .m_valid(aw_valid),
      .m_ready(write_go)
  );
  skid #(
      .W(36)
  ) u_w (
      .clk,
      .rst_n,
      .s_data ({s_axil_wdata, s_axil_wstrb}),
      .s_valid(s_axil_wvalid),
      .s_ready(s_axil_wready),
      .m_data ({data, strb}),
      .m_valid(w_valid),
      .m_ready(write_go)
  );
  skid #(
      .W(32)
  ) u_ar (
      .clk,
      .rst_n,
      .s_data (s_axil_araddr),
      .s_valid(s_axil_arvalid),
      .s_ready(s_axil_arready),
      .m_data (read_addr),
      .m_valid(ar_valid),
      .m_ready(read)
  );

  assign write = write_go;
  assign write_mask = {{8{strb[3]}}, {8{strb[2]}}, {8{strb[1]}}, {8{strb[0]}}};
  assign write_data = data & write_mask;
  assign read = ar_valid && r_free;
  assign s_axil_bresp = msm_pkg::OKAY;
  assign s_axil_rresp = msm_pkg::OKAY;

  always_ff @(posedge clk) begin
    if (read) s_axil_rdata <= read_data;
    if (!rst_n) begin
      s_axil_bvalid <= 1'b0;
      s_axil_rvalid <= 1'b0;
    end else begin
      if (b_free) s_axil_bvalid <= write_go;
      if (r_free) s_axil_rvalid <= read;
    end
  end
endmodule

`default_nettype wire
