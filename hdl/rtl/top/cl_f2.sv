`default_nettype none

`include "axi_ports.svh"
`include "f2_ports.svh"
`include "parameter_check.svh"

// The DMA engine and the MSM design as custom logic of AWS F2, with all ports of the small shell (`hdl/f2/ports.txt`).
module cl_f2 #(
    // Subsystem and device in the upper halves, vendors in the lower ones: as in `hdl/f2/cl_f2/design/cl_id_defines.vh`.
    parameter logic [31:0] ID0 = 32'hf001_1d0f,
    parameter logic [31:0] ID1 = 32'h1d51_fedc,
    parameter int SC_DEPTH = 1024,
    parameter int PT_DEPTH = 1024,
    parameter int C = 13,
    parameter int ML = 33,
    parameter int AL = 2,
    parameter int II = 1,
    parameter int FP_IMPL = msm_pkg::FP_TILED
) (
    // Clocks, resets, identifiers.
    input  wire         clk_main_a0,
    input  wire         rst_main_n,
    input  wire         clk_hbm_ref,
    input  wire         sh_cl_flr_assert,
    output logic        cl_sh_flr_done,
    output logic [31:0] cl_sh_id0,
    output logic [31:0] cl_sh_id1,
    output logic [31:0] cl_sh_status0,
    output logic [31:0] cl_sh_status1,
    output logic [31:0] cl_sh_status2,
    input  wire  [31:0] sh_cl_ctl0,
    input  wire  [31:0] sh_cl_ctl1,
    input  wire  [31:0] sh_cl_ctl2,
    input  wire  [15:0] sh_cl_status_vdip,
    output logic [15:0] cl_sh_status_vled,
    input  wire  [ 1:0] sh_cl_pwr_state,
    input  wire  [63:0] sh_cl_glcount0,
    input  wire  [63:0] sh_cl_glcount1,

    // Host memory.
    `F2_AXI4_LIST(output logic, input wire, cl_sh_pcim_, sh_cl_pcim_)
    input wire [1:0] cfg_max_payload,
    input wire [2:0] cfg_max_read_req,

    // BAR4.
    `F2_AXI4_LIST(input wire, output logic, sh_cl_dma_pcis_, cl_sh_dma_pcis_)
    output logic cl_sh_dma_wr_full,
    output logic cl_sh_dma_rd_full,

    // BAR0, and BAR4 of the management function.
    `AXIL_PORTS(ocl_cl_, cl_ocl_)
    input wire [54:0] ocl_cl_awuser,
    input wire [54:0] ocl_cl_aruser,
    `AXIL_PORTS(sda_cl_, cl_sda_)

    output logic [15:0] cl_sh_apppf_irq_req,
    input  wire  [15:0] sh_cl_apppf_irq_ack,

    // DDR4.
    input  wire         CLK_DIMM_DP,
    input  wire         CLK_DIMM_DN,
    output logic        M_ACT_N,
    output logic [17:0] M_MA,
    output logic [ 1:0] M_BA,
    output logic [ 1:0] M_BG,
    output logic [ 1:0] M_CKE,
    output logic [ 1:0] M_ODT,
    output logic [ 1:0] M_CS_N,
    output logic [ 1:0] M_CLK_DN,
    output logic [ 1:0] M_CLK_DP,
    output logic        M_PAR,
    inout  wire  [63:0] M_DQ,
    inout  wire  [ 7:0] M_ECC,
    inout  wire  [17:0] M_DQS_DP,
    inout  wire  [17:0] M_DQS_DN,
    output logic        RST_DIMM_N,
    input  wire  [ 7:0] sh_cl_ddr_stat_addr,
    input  wire  [31:0] sh_cl_ddr_stat_wdata,
    input  wire         sh_cl_ddr_stat_wr,
    input  wire         sh_cl_ddr_stat_rd,
    input  wire  [ 2:0] sh_cl_ddr_stat_user,
    output logic        cl_sh_ddr_stat_ack,
    output logic [31:0] cl_sh_ddr_stat_rdata,
    output logic [ 7:0] cl_sh_ddr_stat_int,

    // Monitor of the HBM.
    `F2_HBM_MONITOR(0)
    `F2_HBM_MONITOR(1)

    // Virtual JTAG.
    input  wire  drck,
    input  wire  shift,
    input  wire  tdi,
    input  wire  update,
    input  wire  sel,
    output logic tdo,
    input  wire  tms,
    input  wire  tck,
    input  wire  runtest,
    input  wire  reset,
    input  wire  capture,
    input  wire  bscanid_en,

    // Links to other cards.
    input  wire        PCIE_EP_PERSTN,
    input  wire        PCIE_EP_REF_CLK_P,
    input  wire        PCIE_EP_REF_CLK_N,
    output logic [7:0] PCIE_EP_TXP,
    output logic [7:0] PCIE_EP_TXN,
    input  wire  [7:0] PCIE_EP_RXP,
    input  wire  [7:0] PCIE_EP_RXN,
    output logic       PCIE_RP_PERSTN,
    input  wire        PCIE_RP_REF_CLK_P,
    input  wire        PCIE_RP_REF_CLK_N,
    output logic [7:0] PCIE_RP_TXP,
    output logic [7:0] PCIE_RP_TXN,
    input  wire  [7:0] PCIE_RP_RXP,
    input  wire  [7:0] PCIE_RP_RXN
);
  `PARAMETER_CHECK(cl_f2_ID0, ID0[15:0] != '0 && ID0[31:16] != '0, "cl_f2: ID0 must not have zeros")
  `PARAMETER_CHECK(cl_f2_ID1, ID1[15:0] != '0 && ID1[31:16] != '0, "cl_f2: ID1 must not have zeros")
  `PARAMETER_CHECK(cl_f2_SC_DEPTH, SC_DEPTH >= 2 && SC_DEPTH % 2 == 0, "cl_f2: SC_DEPTH must be even and at least 2")
  `PARAMETER_CHECK(cl_f2_PT_DEPTH, PT_DEPTH >= 1, "cl_f2: PT_DEPTH must be at least 1")
  `PARAMETER_CHECK(cl_f2_C, C >= 2 && C <= 16, "cl_f2: C must be 2 to 16")
  `PARAMETER_CHECK(cl_f2_ML, ML >= 1, "cl_f2: ML must be at least 1")
  `PARAMETER_CHECK(cl_f2_AL, AL >= 1, "cl_f2: AL must be at least 1")
  `PARAMETER_CHECK(cl_f2_II, II >= 1 && II <= 2, "cl_f2: II must be 1 or 2")
  `PARAMETER_CHECK(cl_f2_FP_IMPL, FP_IMPL >= 0 && FP_IMPL <= 2, "cl_f2: FP_IMPL must be 0, 1 or 2")

  // The shell's reset may be routed across the die, so register it.
  logic [1:0] rst_pipe;
  always_ff @(posedge clk_main_a0) rst_pipe <= {rst_pipe[0], rst_main_n};
  wire rst_n = rst_pipe[1];

  // ------------------------------------------------------------------------------------------------ engine
  localparam int HOST_ID_W = 4;
  localparam int CARD_ID_W = 17;
  logic design_rst_n, design_irq, card_dead, busy;
  logic [HOST_ID_W-1:0] host_awid, host_arid;
  `AXIL_WIRES(user_)
  `AXI4_WIRES(card_, CARD_ID_W, 64, 512)
  f2_bridge u_bridge (
      .clk(clk_main_a0),
      .rst_n,
      `AXIL_CONNECT(s_axil_, ocl_cl_, cl_ocl_),
      `AXI4_WRITE_CONNECT(s_axi_, sh_cl_dma_pcis_, cl_sh_dma_pcis_),
      `AXI4_READ_CONNECT(s_axi_, sh_cl_dma_pcis_, cl_sh_dma_pcis_),
      .m_host_awid(host_awid),
      .m_host_awaddr(cl_sh_pcim_awaddr),
      .m_host_awlen(cl_sh_pcim_awlen),
      .m_host_awsize(cl_sh_pcim_awsize),
      .m_host_awburst(cl_sh_pcim_awburst),
      .m_host_awvalid(cl_sh_pcim_awvalid),
      .m_host_awready(sh_cl_pcim_awready),
      .m_host_wdata(cl_sh_pcim_wdata),
      .m_host_wstrb(cl_sh_pcim_wstrb),
      .m_host_wlast(cl_sh_pcim_wlast),
      .m_host_wvalid(cl_sh_pcim_wvalid),
      .m_host_wready(sh_cl_pcim_wready),
      .m_host_bid(sh_cl_pcim_bid[HOST_ID_W-1:0]),
      .m_host_bresp(sh_cl_pcim_bresp),
      .m_host_bvalid(sh_cl_pcim_bvalid),
      .m_host_bready(cl_sh_pcim_bready),
      .m_host_arid(host_arid),
      .m_host_araddr(cl_sh_pcim_araddr),
      .m_host_arlen(cl_sh_pcim_arlen),
      .m_host_arsize(cl_sh_pcim_arsize),
      .m_host_arburst(cl_sh_pcim_arburst),
      .m_host_arvalid(cl_sh_pcim_arvalid),
      .m_host_arready(sh_cl_pcim_arready),
      .m_host_rid(sh_cl_pcim_rid[HOST_ID_W-1:0]),
      .m_host_rdata(sh_cl_pcim_rdata),
      .m_host_rresp(sh_cl_pcim_rresp),
      .m_host_rlast(sh_cl_pcim_rlast),
      .m_host_rvalid(sh_cl_pcim_rvalid),
      .m_host_rready(cl_sh_pcim_rready),
      .max_payload(cfg_max_payload),
      .max_read_request(cfg_max_read_req),
      .irq_req(cl_sh_apppf_irq_req),
      .irq_ack(sh_cl_apppf_irq_ack),
      .flr(sh_cl_flr_assert),
      .flr_done(cl_sh_flr_done),
      .card_dead,
      .design_rst_n,
      `AXIL_CONNECT(m_axil_, user_, user_),
      `AXI4_WRITE_CONNECT(m_axi_, card_, card_),
      `AXI4_READ_CONNECT(m_axi_, card_, card_),
      .design_irq({15'd0, design_irq})
  );
  assign cl_sh_pcim_awid = 16'(host_awid);
  assign cl_sh_pcim_wid = '0;
  assign cl_sh_pcim_arid = 16'(host_arid);
  assign {cl_sh_pcim_awcache, cl_sh_pcim_awlock, cl_sh_pcim_awprot, cl_sh_pcim_awqos} = '0;
  assign {cl_sh_pcim_arcache, cl_sh_pcim_arlock, cl_sh_pcim_arprot, cl_sh_pcim_arqos} = '0;
  assign {cl_sh_pcim_awuser, cl_sh_pcim_wuser, cl_sh_pcim_aruser, cl_sh_dma_pcis_ruser} = '0;

  // ------------------------------------------------------------------------------------------------ design
  logic wr_full;
  msm_design #(
      .ID_W(CARD_ID_W),
      .SC_DEPTH(SC_DEPTH),
      .PT_DEPTH(PT_DEPTH),
      .C(C),
      .ML(ML),
      .AL(AL),
      .II(II),
      .FP_IMPL(FP_IMPL)
  ) u_design (
      .clk(clk_main_a0),
      .rst_n(design_rst_n),
      `AXI4_WRITE_CONNECT(s_axi_, card_, card_),
      `AXI4_READ_CONNECT(s_axi_, card_, card_),
      .wr_full,
      `AXIL_CONNECT(s_axil_, user_, user_),
      .irq(design_irq),
      .busy
  );

  // ------------------------------------------------------------------------------------------------ everything else
  assign {cl_sh_id0, cl_sh_id1} = {ID0, ID1};
  assign {cl_sh_status0, cl_sh_status1, cl_sh_status2} = '0;
  // For `fpga-get-virtual-led`.
  assign cl_sh_status_vled = {13'd0, design_irq, card_dead, busy};
  // They concern only the channels of a DMA engine in the shell.
  assign {cl_sh_dma_wr_full, cl_sh_dma_rd_full} = '0;

  // SDA has no registers.
  logic sda_write, sda_read;
  logic [31:0] sda_write_addr, sda_write_mask, sda_write_data, sda_read_addr;
  axil_slave u_sda (
      .clk(clk_main_a0),
      .rst_n,
      `AXIL_CONNECT(s_axil_, sda_cl_, cl_sda_),
      .write(sda_write),
      .write_addr(sda_write_addr),
      .write_mask(sda_write_mask),
      .write_data(sda_write_data),
      .read(sda_read),
      .read_addr(sda_read_addr),
      .read_data(32'd0)
  );

  // The memory is not used, but the HDK requires its module on the pins.
`ifdef F2_SH_DDR
  sh_ddr #(
      .DDR_PRESENT(0)
  ) u_ddr (
      .clk(clk_main_a0),
      .rst_n,
      .stat_clk(clk_main_a0),
      .stat_rst_n(rst_n),
      .CLK_DIMM_DP,
      .CLK_DIMM_DN,
      .M_ACT_N,
      .M_MA,
      .M_BA,
      .M_BG,
      .M_CKE,
      .M_ODT,
      .M_CS_N,
      .M_CLK_DN,
      .M_CLK_DP,
      .M_PAR,
      .M_DQ,
      .M_ECC,
      .M_DQS_DP,
      .M_DQS_DN,
      .cl_RST_DIMM_N(RST_DIMM_N),
      .cl_sh_ddr_axi_awid('0),
      .cl_sh_ddr_axi_awaddr('0),
      .cl_sh_ddr_axi_awlen('0),
      .cl_sh_ddr_axi_awsize(3'd6),
      .cl_sh_ddr_axi_awburst(2'd1),
      .cl_sh_ddr_axi_awvalid(1'b0),
      .cl_sh_ddr_axi_wdata('0),
      .cl_sh_ddr_axi_wstrb('0),
      .cl_sh_ddr_axi_wlast(1'b0),
      .cl_sh_ddr_axi_wvalid(1'b0),
      .cl_sh_ddr_axi_bready(1'b0),
      .cl_sh_ddr_axi_arid('0),
      .cl_sh_ddr_axi_araddr('0),
      .cl_sh_ddr_axi_arlen('0),
      .cl_sh_ddr_axi_arsize(3'd6),
      .cl_sh_ddr_axi_arburst(2'd1),
      .cl_sh_ddr_axi_arvalid(1'b0),
      .cl_sh_ddr_axi_rready(1'b0),
      .sh_ddr_stat_bus_addr('0),
      .sh_ddr_stat_bus_wdata('0),
      .sh_ddr_stat_bus_wr(1'b0),
      .sh_ddr_stat_bus_rd(1'b0)
  );
`else
  assign {M_ACT_N, M_MA, M_BA, M_BG, M_CKE, M_ODT, M_CS_N, M_CLK_DN, M_CLK_DP, M_PAR, RST_DIMM_N} = '0;
  wire unused_ddr = &{1'b0, CLK_DIMM_DP, CLK_DIMM_DN, M_DQ, M_ECC, M_DQS_DP, M_DQS_DN};
`endif
  assign cl_sh_ddr_stat_ack = 1'b1;
  assign {cl_sh_ddr_stat_rdata, cl_sh_ddr_stat_int} = '0;

  assign {hbm_apb_paddr_0, hbm_apb_pprot_0, hbm_apb_psel_0, hbm_apb_penable_0, hbm_apb_pwrite_0, hbm_apb_pwdata_0} = '0;
  assign {hbm_apb_pstrb_0, hbm_apb_pready_0, hbm_apb_prdata_0, hbm_apb_pslverr_0} = '0;
  assign {hbm_apb_paddr_1, hbm_apb_pprot_1, hbm_apb_psel_1, hbm_apb_penable_1, hbm_apb_pwrite_1, hbm_apb_pwdata_1} = '0;
  assign {hbm_apb_pstrb_1, hbm_apb_pready_1, hbm_apb_prdata_1, hbm_apb_pslverr_1} = '0;
  assign tdo = 1'b0;
  assign {PCIE_EP_TXP, PCIE_EP_TXN, PCIE_RP_PERSTN, PCIE_RP_TXP, PCIE_RP_TXN} = '0;

  wire unused_pcis = &{
    1'b0, sh_cl_dma_pcis_awcache, sh_cl_dma_pcis_awlock, sh_cl_dma_pcis_awprot, sh_cl_dma_pcis_awqos, sh_cl_dma_pcis_awuser,
    sh_cl_dma_pcis_wid, sh_cl_dma_pcis_wuser, sh_cl_dma_pcis_arcache, sh_cl_dma_pcis_arlock, sh_cl_dma_pcis_arprot,
    sh_cl_dma_pcis_arqos, sh_cl_dma_pcis_aruser, sh_cl_pcim_bid, sh_cl_pcim_rid, sh_cl_pcim_ruser, ocl_cl_awuser, ocl_cl_aruser
  };
  wire unused = &{
    1'b0, clk_hbm_ref, sh_cl_ctl0, sh_cl_ctl1, sh_cl_ctl2, sh_cl_status_vdip, sh_cl_pwr_state, sh_cl_glcount0, sh_cl_glcount1,
    sda_write, sda_read, sda_write_addr, sda_write_mask, sda_write_data, sda_read_addr, sh_cl_ddr_stat_addr, sh_cl_ddr_stat_wdata,
    sh_cl_ddr_stat_wr, sh_cl_ddr_stat_rd, sh_cl_ddr_stat_user, hbm_apb_preset_n_0, hbm_apb_preset_n_1, drck, shift, tdi, update,
    sel, tms, tck, runtest, reset, capture, bscanid_en, PCIE_EP_PERSTN, PCIE_EP_REF_CLK_P, PCIE_EP_REF_CLK_N, PCIE_EP_RXP,
    PCIE_EP_RXN, PCIE_RP_REF_CLK_P, PCIE_RP_REF_CLK_N, PCIE_RP_RXP, PCIE_RP_RXN, wr_full
  };
endmodule

`default_nettype wire
