`default_nettype none

`include "parameter_check.svh"

// The design under the names of the AWS F1 shell (`cl_ports.vh`): DMA_PCIS, OCL and one user interrupt. What else the shell offers
// is tied off by its own `unused_*_template.inc` in a build with the HDK.
module cl_msm #(
    parameter int SC_DEPTH = 1024,
    parameter int PT_DEPTH = 1024,
    // Clock recipe A1 has 250 MHz, A0 half of it.
    parameter int CLOCK_KHZ = 250_000,
    parameter int C = 13,
    parameter int ML = 33,
    parameter int AL = 2,
    parameter int II = 2,
    parameter int FP_IMPL = msm_pkg::FP_TILED
) (
    input wire clk_main_a0,
    input wire rst_main_n,

    input  wire  [  5:0] sh_cl_dma_pcis_awid,
    input  wire  [ 63:0] sh_cl_dma_pcis_awaddr,
    input  wire  [  7:0] sh_cl_dma_pcis_awlen,
    input  wire  [  2:0] sh_cl_dma_pcis_awsize,
    input  wire          sh_cl_dma_pcis_awvalid,
    output logic         cl_sh_dma_pcis_awready,
    input  wire  [511:0] sh_cl_dma_pcis_wdata,
    input  wire  [ 63:0] sh_cl_dma_pcis_wstrb,
    input  wire          sh_cl_dma_pcis_wlast,
    input  wire          sh_cl_dma_pcis_wvalid,
    output logic         cl_sh_dma_pcis_wready,
    output logic [  5:0] cl_sh_dma_pcis_bid,
    output logic [  1:0] cl_sh_dma_pcis_bresp,
    output logic         cl_sh_dma_pcis_bvalid,
    input  wire          sh_cl_dma_pcis_bready,
    input  wire  [  5:0] sh_cl_dma_pcis_arid,
    input  wire  [ 63:0] sh_cl_dma_pcis_araddr,
    input  wire  [  7:0] sh_cl_dma_pcis_arlen,
    input  wire  [  2:0] sh_cl_dma_pcis_arsize,
    input  wire          sh_cl_dma_pcis_arvalid,
    output logic         cl_sh_dma_pcis_arready,
    output logic [  5:0] cl_sh_dma_pcis_rid,
    output logic [511:0] cl_sh_dma_pcis_rdata,
    output logic [  1:0] cl_sh_dma_pcis_rresp,
    output logic         cl_sh_dma_pcis_rlast,
    output logic         cl_sh_dma_pcis_rvalid,
    input  wire          sh_cl_dma_pcis_rready,
    output logic         cl_sh_dma_wr_full,
    output logic         cl_sh_dma_rd_full,

    input  wire         sh_ocl_awvalid,
    input  wire  [31:0] sh_ocl_awaddr,
    output logic        ocl_sh_awready,
    input  wire         sh_ocl_wvalid,
    input  wire  [31:0] sh_ocl_wdata,
    input  wire  [ 3:0] sh_ocl_wstrb,
    output logic        ocl_sh_wready,
    output logic        ocl_sh_bvalid,
    output logic [ 1:0] ocl_sh_bresp,
    input  wire         sh_ocl_bready,
    input  wire         sh_ocl_arvalid,
    input  wire  [31:0] sh_ocl_araddr,
    output logic        ocl_sh_arready,
    output logic        ocl_sh_rvalid,
    output logic [31:0] ocl_sh_rdata,
    output logic [ 1:0] ocl_sh_rresp,
    input  wire         sh_ocl_rready,

    output logic [15:0] cl_sh_apppf_irq_req,
    input  wire  [15:0] sh_cl_apppf_irq_ack
);
  `PARAMETER_CHECK(cl_msm_SC_DEPTH, SC_DEPTH >= 2 && SC_DEPTH % 2 == 0, "cl_msm: SC_DEPTH must be even and at least 2")
  `PARAMETER_CHECK(cl_msm_PT_DEPTH, PT_DEPTH >= 1, "cl_msm: PT_DEPTH must be at least 1")
  `PARAMETER_CHECK(cl_msm_CLOCK_KHZ, CLOCK_KHZ >= 1, "cl_msm: CLOCK_KHZ must be at least 1")
  `PARAMETER_CHECK(cl_msm_C, C >= 2 && C <= 16, "cl_msm: C must be 2 to 16")
  `PARAMETER_CHECK(cl_msm_ML, ML >= 1, "cl_msm: ML must be at least 1")
  `PARAMETER_CHECK(cl_msm_AL, AL >= 1, "cl_msm: AL must be at least 1")
  `PARAMETER_CHECK(cl_msm_II, II >= 1 && II <= 2, "cl_msm: II must be 1 or 2")
  `PARAMETER_CHECK(cl_msm_FP_IMPL, FP_IMPL >= 0 && FP_IMPL <= 2, "cl_msm: FP_IMPL must be 0, 1 or 2")

  // The shell's reset may come from far away.
  logic [1:0] rst_pipe;
  always_ff @(posedge clk_main_a0) rst_pipe <= {rst_pipe[0], rst_main_n};
  wire rst_n = rst_pipe[1];

  logic irq;

  msm_design #(
      .SC_DEPTH(SC_DEPTH),
      .PT_DEPTH(PT_DEPTH),
      .CLOCK_KHZ(CLOCK_KHZ),
      .C(C),
      .ML(ML),
      .AL(AL),
      .II(II),
      .FP_IMPL(FP_IMPL)
  ) u_design (
      .clk(clk_main_a0),
      .rst_n,
      .s_axi_awid(sh_cl_dma_pcis_awid),
      .s_axi_awaddr(sh_cl_dma_pcis_awaddr),
      .s_axi_awlen(sh_cl_dma_pcis_awlen),
      .s_axi_awsize(sh_cl_dma_pcis_awsize),
      .s_axi_awburst(msm_pkg::INCR),  // the shell sends nothing else
      .s_axi_awvalid(sh_cl_dma_pcis_awvalid),
      .s_axi_awready(cl_sh_dma_pcis_awready),
      .s_axi_wdata(sh_cl_dma_pcis_wdata),
      .s_axi_wstrb(sh_cl_dma_pcis_wstrb),
      .s_axi_wlast(sh_cl_dma_pcis_wlast),
      .s_axi_wvalid(sh_cl_dma_pcis_wvalid),
      .s_axi_wready(cl_sh_dma_pcis_wready),
      .s_axi_bid(cl_sh_dma_pcis_bid),
      .s_axi_bresp(cl_sh_dma_pcis_bresp),
      .s_axi_bvalid(cl_sh_dma_pcis_bvalid),
      .s_axi_bready(sh_cl_dma_pcis_bready),
      .s_axi_arid(sh_cl_dma_pcis_arid),
      .s_axi_araddr(sh_cl_dma_pcis_araddr),
      .s_axi_arlen(sh_cl_dma_pcis_arlen),
      .s_axi_arsize(sh_cl_dma_pcis_arsize),
      .s_axi_arburst(msm_pkg::INCR),
      .s_axi_arvalid(sh_cl_dma_pcis_arvalid),
      .s_axi_arready(cl_sh_dma_pcis_arready),
      .s_axi_rid(cl_sh_dma_pcis_rid),
      .s_axi_rdata(cl_sh_dma_pcis_rdata),
      .s_axi_rresp(cl_sh_dma_pcis_rresp),
      .s_axi_rlast(cl_sh_dma_pcis_rlast),
      .s_axi_rvalid(cl_sh_dma_pcis_rvalid),
      .s_axi_rready(sh_cl_dma_pcis_rready),
      .wr_full(cl_sh_dma_wr_full),
      .s_axil_awaddr(sh_ocl_awaddr),
      .s_axil_awvalid(sh_ocl_awvalid),
      .s_axil_awready(ocl_sh_awready),
      .s_axil_wdata(sh_ocl_wdata),
      .s_axil_wstrb(sh_ocl_wstrb),
      .s_axil_wvalid(sh_ocl_wvalid),
      .s_axil_wready(ocl_sh_wready),
      .s_axil_bresp(ocl_sh_bresp),
      .s_axil_bvalid(ocl_sh_bvalid),
      .s_axil_bready(sh_ocl_bready),
      .s_axil_araddr(sh_ocl_araddr),
      .s_axil_arvalid(sh_ocl_arvalid),
      .s_axil_arready(ocl_sh_arready),
      .s_axil_rdata(ocl_sh_rdata),
      .s_axil_rresp(ocl_sh_rresp),
      .s_axil_rvalid(ocl_sh_rvalid),
      .s_axil_rready(sh_ocl_rready),
      .irq
  );
  // Reads never wait for anything.
  assign cl_sh_dma_rd_full = 1'b0;

  // A rising edge is one pulse, and the next waits for the shell to acknowledge it.
  logic irq_before, pending, asked;
  wire ask = pending && !asked;
  assign cl_sh_apppf_irq_req = {15'd0, ask};
  always_ff @(posedge clk_main_a0) begin
    irq_before <= irq;
    if (!rst_n) begin
      irq_before <= 1'b0;
      pending <= 1'b0;
      asked <= 1'b0;
    end else begin
      if (irq && !irq_before) pending <= 1'b1;
      else if (ask) pending <= 1'b0;
      if (ask) asked <= 1'b1;
      else if (sh_cl_apppf_irq_ack[0]) asked <= 1'b0;
    end
  end

  wire unused = &{1'b0, sh_cl_apppf_irq_ack[15:1]};
endmodule

`default_nettype wire
