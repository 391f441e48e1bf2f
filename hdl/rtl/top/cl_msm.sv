`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// The design with the port names of the AWS F1 shell (`cl_ports.vh`): DMA_PCIS, OCL and one user interrupt. In an HDK build, the
// shell's `unused_*_template.inc` files tie off all other interfaces.
module cl_msm #(
    parameter int SC_DEPTH = 1024,
    parameter int PT_DEPTH = 1024,
    // Clock recipe A1 runs at 250 MHz, A0 at half of that.
    parameter int CLOCK_KHZ = 250_000,
    parameter int C = 13,
    parameter int ML = 33,
    parameter int AL = 2,
    parameter int II = 2,
    parameter int FP_IMPL = msm_pkg::FP_TILED
) (
    input wire clk_main_a0,
    input wire rst_main_n,

    `AXI4_WRITE_PORTS_INCR(sh_cl_dma_pcis_, cl_sh_dma_pcis_, 6, 64, 512)
    `AXI4_READ_PORTS_INCR(sh_cl_dma_pcis_, cl_sh_dma_pcis_, 6, 64, 512)
    output logic cl_sh_dma_wr_full,
    output logic cl_sh_dma_rd_full,

    `AXIL_PORTS(sh_ocl_, ocl_sh_)

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

  // The shell's reset may be routed across the die, so register it.
  logic [1:0] rst_pipe;
  always_ff @(posedge clk_main_a0) rst_pipe <= {rst_pipe[0], rst_main_n};
  wire rst_n = rst_pipe[1];

  logic irq, busy;

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
      `AXI4_WRITE_CONNECT_INCR(s_axi_, sh_cl_dma_pcis_, cl_sh_dma_pcis_),
      .s_axi_awburst(msm_pkg::INCR),  // the shell sends only INCR
      `AXI4_READ_CONNECT_INCR(s_axi_, sh_cl_dma_pcis_, cl_sh_dma_pcis_),
      .s_axi_arburst(msm_pkg::INCR),
      .wr_full(cl_sh_dma_wr_full),
      `AXIL_CONNECT(s_axil_, sh_ocl_, ocl_sh_),
      .irq,
      .busy
  );
  // Reads are never held up.
  assign cl_sh_dma_rd_full = 1'b0;

  // Each rising edge of `irq` requests one pulse. The next request waits until the shell has acknowledged the last one.
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

  wire unused = &{1'b0, busy, sh_cl_apppf_irq_ack[15:1]};
endmodule

`default_nettype wire
