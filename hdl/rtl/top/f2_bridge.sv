`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// The part of an F2 image between shell and design: the DMA engine with its registers at offset 0 of BAR0, and the design's
// registers above 64 KiB. The engine and PCIS reach the same card addresses.
module f2_bridge #(
    // Channels of the engine in each direction.
    parameter int H2C = 1,
    parameter int C2H = 1,
    // Clocks to wait for the shell to take a response to PCIS, or to send the rest of a write. The shell gives up an access after 2,000
    // clocks.
    parameter int PCIS_CYCLES = 4096,
    localparam int DATA_W = 512,
    localparam int ADDR_W = 64,
    localparam int HOST_ID_W = 4,
    localparam int SHELL_ID_W = 16
) (
    input wire clk,
    input wire rst_n,

    // OCL, PCIS and PCIM.
    `AXIL_PORTS(s_axil_, s_axil_)
    `AXI4_WRITE_PORTS(s_axi_, s_axi_, SHELL_ID_W, ADDR_W, DATA_W)
    `AXI4_READ_PORTS(s_axi_, s_axi_, SHELL_ID_W, ADDR_W, DATA_W)
    `AXI4_WRITE_MASTER_PORTS(m_host_, HOST_ID_W, ADDR_W, DATA_W)
    `AXI4_READ_MASTER_PORTS(m_host_, HOST_ID_W, ADDR_W, DATA_W)
    input  wire  [ 1:0] max_payload,
    input  wire  [ 2:0] max_read_request,
    output logic [15:0] irq_req,
    input  wire  [15:0] irq_ack,
    input  wire         flr,
    output logic        flr_done,
    // The design did not answer the engine.
    output logic        card_dead,

    // The design, and its reset.
    output logic        design_rst_n,
    `AXIL_MASTER_PORTS(m_axil_)
    `AXI4_WRITE_MASTER_PORTS(m_axi_, SHELL_ID_W + 1, ADDR_W, DATA_W)
    `AXI4_READ_MASTER_PORTS(m_axi_, SHELL_ID_W + 1, ADDR_W, DATA_W)
    // Levels.
    input  wire  [15:0] design_irq
);
  `PARAMETER_CHECK(f2_bridge_PCIS_CYCLES, PCIS_CYCLES >= 2, "f2_bridge: PCIS_CYCLES must be at least 2")

  localparam int CARD_ID_W = 2;

  // The registers of the engine and of the design.
  `AXIL_WIRES(regs_)
  axil_split #(
      .BITS(16)
  ) u_split (
      .clk,
      .rst_n,
      `AXIL_CONNECT(s_axil_, s_axil_, s_axil_),
      `AXIL_CONNECT(low_, regs_, regs_),
      `AXIL_CONNECT(high_, m_axil_, m_axil_)
  );

  `AXI4_WIRES(card_, SHELL_ID_W, ADDR_W, DATA_W)
  logic [CARD_ID_W-1:0] engine_awid, engine_arid;
  logic engine_bvalid, engine_rvalid;
  dma_engine #(
      .H2C(H2C),
      .C2H(C2H)
  ) u_engine (
      .clk,
      .rst_n,
      `AXIL_CONNECT(s_axil_, regs_, regs_),
      `AXI4_READ_CONNECT(m_host_, m_host_, m_host_),
      `AXI4_WRITE_CONNECT(m_host_, m_host_, m_host_),
      .m_card_awid(engine_awid),
      .m_card_awaddr(card_awaddr),
      .m_card_awlen(card_awlen),
      .m_card_awsize(card_awsize),
      .m_card_awburst(card_awburst),
      .m_card_awvalid(card_awvalid),
      .m_card_awready(card_awready),
      .m_card_wdata(card_wdata),
      .m_card_wstrb(card_wstrb),
      .m_card_wlast(card_wlast),
      .m_card_wvalid(card_wvalid),
      .m_card_wready(card_wready),
      .m_card_bid(card_bid[CARD_ID_W-1:0]),
      .m_card_bresp(card_bresp),
      .m_card_bvalid(engine_bvalid),
      .m_card_bready(card_bready),
      .m_card_arid(engine_arid),
      .m_card_araddr(card_araddr),
      .m_card_arlen(card_arlen),
      .m_card_arsize(card_arsize),
      .m_card_arburst(card_arburst),
      .m_card_arvalid(card_arvalid),
      .m_card_arready(card_arready),
      .m_card_rid(card_rid[CARD_ID_W-1:0]),
      .m_card_rdata(card_rdata),
      .m_card_rresp(card_rresp),
      .m_card_rlast(card_rlast),
      .m_card_rvalid(engine_rvalid),
      .m_card_rready(card_rready),
      .max_payload,
      .max_read_request,
      .user_irq(design_irq),
      .irq_req,
      .irq_ack,
      .flr,
      .flr_done,
      .card_dead
  );
  assign card_awid = SHELL_ID_W'(engine_awid);
  assign card_arid = SHELL_ID_W'(engine_arid);

  // A function-level reset also resets the design. Late responses of a design that was given up must not reach the engine's next
  // requests.
  logic given_up;
  assign engine_bvalid = card_bvalid && !given_up;
  assign engine_rvalid = card_rvalid && !given_up;
  always_ff @(posedge clk) begin
    design_rst_n <= rst_n && !flr_done;
    if (!rst_n || !design_rst_n) given_up <= 1'b0;
    else if (card_dead) given_up <= 1'b1;
  end

  // After its time-out of 8 microseconds, the shell may not take the responses of an access that it ended itself. Drop them, or
  // they would block the responses to the engine.
  localparam int PCIS_W = $clog2(PCIS_CYCLES);
  logic [PCIS_W-1:0] pcis_waits;
  logic pcis_given_up;
  wire pcis_bready = s_axi_bready || pcis_given_up;
  wire pcis_rready = s_axi_rready || pcis_given_up;
  wire pcis_taken = (s_axi_bvalid && s_axi_bready) || (s_axi_rvalid && s_axi_rready);
  wire pcis_waiting = (s_axi_bvalid && !s_axi_bready) || (s_axi_rvalid && !s_axi_rready);
  always_ff @(posedge clk) begin
    pcis_waits <= (pcis_waiting && !pcis_taken && design_rst_n) ? pcis_waits + 1'b1 : '0;
    if (!design_rst_n || pcis_taken) pcis_given_up <= 1'b0;
    else if (pcis_waits == PCIS_W'(PCIS_CYCLES - 1)) pcis_given_up <= 1'b1;
  end

  // A write that the shell gave up in the middle would block the engine's writes behind it.
  localparam int QUEUE = 16;
  logic [DATA_W-1:0] pcis_wdata;
  logic [DATA_W/8-1:0] pcis_wstrb;
  logic pcis_wlast, pcis_wvalid, pcis_wready;
  axi_finish #(
      .DATA_W(DATA_W),
      .QUEUE (QUEUE),
      .CYCLES(PCIS_CYCLES)
  ) u_finish (
      .clk,
      .rst_n(design_rst_n),
      .aw_taken(s_axi_awvalid && s_axi_awready),
      .awlen(s_axi_awlen),
      .s_wdata(s_axi_wdata),
      .s_wstrb(s_axi_wstrb),
      .s_wlast(s_axi_wlast),
      .s_wvalid(s_axi_wvalid),
      .s_wready(s_axi_wready),
      .m_wdata(pcis_wdata),
      .m_wstrb(pcis_wstrb),
      .m_wlast(pcis_wlast),
      .m_wvalid(pcis_wvalid),
      .m_wready(pcis_wready)
  );

  axi_join #(
      .DATA_W(DATA_W),
      .ADDR_W(ADDR_W),
      .ID_W(SHELL_ID_W),
      .QUEUE(QUEUE)
  ) u_join (
      .clk,
      .rst_n(design_rst_n),
      .a_axi_awid(s_axi_awid),
      .a_axi_awaddr(s_axi_awaddr),
      .a_axi_awlen(s_axi_awlen),
      .a_axi_awsize(s_axi_awsize),
      .a_axi_awburst(s_axi_awburst),
      .a_axi_awvalid(s_axi_awvalid),
      .a_axi_awready(s_axi_awready),
      .a_axi_wdata(pcis_wdata),
      .a_axi_wstrb(pcis_wstrb),
      .a_axi_wlast(pcis_wlast),
      .a_axi_wvalid(pcis_wvalid),
      .a_axi_wready(pcis_wready),
      .a_axi_bid(s_axi_bid),
      .a_axi_bresp(s_axi_bresp),
      .a_axi_bvalid(s_axi_bvalid),
      .a_axi_bready(pcis_bready),
      .a_axi_arid(s_axi_arid),
      .a_axi_araddr(s_axi_araddr),
      .a_axi_arlen(s_axi_arlen),
      .a_axi_arsize(s_axi_arsize),
      .a_axi_arburst(s_axi_arburst),
      .a_axi_arvalid(s_axi_arvalid),
      .a_axi_arready(s_axi_arready),
      .a_axi_rid(s_axi_rid),
      .a_axi_rdata(s_axi_rdata),
      .a_axi_rresp(s_axi_rresp),
      .a_axi_rlast(s_axi_rlast),
      .a_axi_rvalid(s_axi_rvalid),
      .a_axi_rready(pcis_rready),
      `AXI4_WRITE_CONNECT(b_axi_, card_, card_),
      `AXI4_READ_CONNECT(b_axi_, card_, card_),
      `AXI4_WRITE_CONNECT(m_axi_, m_axi_, m_axi_),
      `AXI4_READ_CONNECT(m_axi_, m_axi_, m_axi_)
  );

  wire unused = &{1'b0, card_bid, card_rid};
endmodule

`default_nettype wire
