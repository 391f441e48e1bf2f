`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// A DMA engine with XDMA's register map (PG195), memory-mapped. It masters two AXI4 ports: host memory, as the PCIM port of the AWS
// F2 shell, and the memory of the card.
module dma_engine #(
    // Channels of each direction.
    parameter int H2C = 1,
    parameter int C2H = 1,
    // Requests under way on each port, and bursts.
    parameter int READS = 64,
    parameter int WRITES = 32,
    // Beats of payload that each channel buffers.
    parameter int BUFFER = 1024,
    // Clocks to wait for the acknowledgement of an interrupt.
    parameter int ACK_CYCLES = 1 << 20,
    // Clocks without progress after which the card's side is dead, usually and during a function-level reset.
    parameter int WATCHDOG = 1 << 30,
    parameter int RESET_WATCHDOG = 1 << 18,
    localparam int DATA_W = 512,
    localparam int ADDR_W = 64,
    localparam int HOST_ID_W = 4,
    localparam int CARD_ID_W = 2
) (
    input wire clk,
    input wire rst_n,

    `AXIL_PORTS(s_axil_, s_axil_)
    `AXI4_READ_MASTER_PORTS(m_host_, HOST_ID_W, ADDR_W, DATA_W)
    `AXI4_WRITE_MASTER_PORTS(m_host_, HOST_ID_W, ADDR_W, DATA_W)
    `AXI4_READ_MASTER_PORTS(m_card_, CARD_ID_W, ADDR_W, DATA_W)
    `AXI4_WRITE_MASTER_PORTS(m_card_, CARD_ID_W, ADDR_W, DATA_W)

    // Encoded as in DevCtl: 0 = 128 bytes, 1 = 256, 2 = 512.
    input wire [1:0] max_payload,
    input wire [2:0] max_read_request,

    input  wire  [15:0] user_irq,
    output logic [15:0] irq_req,
    input  wire  [15:0] irq_ack,

    // Function-level reset: a level, and a pulse when it is complete.
    input  wire  flr,
    output logic flr_done,
    // The card's side did not answer. Until a reset, its transfers end with an error.
    output logic card_dead
);
  `PARAMETER_CHECK(dma_engine_H2C, H2C >= 1 && H2C <= 4, "dma_engine: H2C must be 1 to 4")
  `PARAMETER_CHECK(dma_engine_C2H, C2H >= 1 && C2H <= 4, "dma_engine: C2H must be 1 to 4")

  localparam int N = H2C + C2H;
  localparam int STRB_W = DATA_W / 8;

  // Reset.
  logic cancel, engine_rst_n;
  logic host_read_quiet, host_write_quiet, card_read_quiet, card_write_quiet;
  logic card_read_dead, card_write_dead, card_read_progress, card_write_progress;
  logic [N-1:0] channel_running;
  wire card_read_idle = card_read_quiet || card_read_dead;
  wire card_write_idle = card_write_quiet || card_write_dead;
  assign card_dead = card_read_dead || card_write_dead;
  dma_reset u_reset (
      .clk,
      .rst_n,
      .flr,
      .done(flr_done),
      .idle(channel_running == '0 && host_read_quiet && host_write_quiet && card_read_idle && card_write_idle),
      .cancel,
      .engine_rst_n
  );
  dma_watchdog #(
      .LIMIT(WATCHDOG),
      .HURRY_LIMIT(RESET_WATCHDOG)
  ) u_read_watchdog (
      .clk,
      .rst_n(engine_rst_n),
      .waiting(!card_read_quiet),
      .progress(card_read_progress),
      .hurry(cancel),
      .dead(card_read_dead)
  );
  dma_watchdog #(
      .LIMIT(WATCHDOG),
      .HURRY_LIMIT(RESET_WATCHDOG)
  ) u_write_watchdog (
      .clk,
      .rst_n(engine_rst_n),
      .waiting(!card_write_quiet),
      .progress(card_write_progress),
      .hurry(cancel),
      .dead(card_write_dead)
  );

  // Registers.
  logic write, read;
  logic [31:0] write_addr, write_mask, write_data, read_addr, read_data;
  axil_slave u_axil (
      .clk,
      .rst_n,
      `AXIL_CONNECT(s_axil_, s_axil_, s_axil_),
      .write,
      .write_addr,
      .write_mask,
      .write_data,
      .read,
      .read_addr,
      .read_data
  );

  wire [3:0] write_target = write_addr[15:12];
  wire [3:0] read_target = read_addr[15:12];
  // Offsets are those of words; the strobes select bytes.
  wire [7:0] write_offset = {write_addr[7:2], 2'b00};
  wire [7:0] read_offset = {read_addr[7:2], 2'b00};
  // Blocks without channels are in the first 256 bytes of their target.
  wire write_first = write && write_addr[31:16] == '0 && write_addr[11:8] == '0;
  logic [31:0] irq_data, config_data, common_data;
  logic [32*N-1:0] channel_data, sgdma_data;

  integer c;
  always_comb begin
    read_data = '0;
    for (c = 0; c < N; c = c + 1) begin
      if (read_addr[11:8] == 4'((c < H2C) ? c : c - H2C)) begin
        if (read_target == ((c < H2C) ? xdma_regs_pkg::TARGET_H2C : xdma_regs_pkg::TARGET_C2H))
          read_data = channel_data[32*c+:32];
        if (read_target == ((c < H2C) ? xdma_regs_pkg::TARGET_H2C_SGDMA : xdma_regs_pkg::TARGET_C2H_SGDMA))
          read_data = sgdma_data[32*c+:32];
      end
    end
    if (read_addr[11:8] == '0) begin
      case (read_target)
        xdma_regs_pkg::TARGET_IRQ: read_data = irq_data;
        xdma_regs_pkg::TARGET_CONFIG: read_data = config_data;
        xdma_regs_pkg::TARGET_COMMON: read_data = common_data;
        default: ;
      endcase
    end
    if (read_addr[31:16] != '0) read_data = '0;
  end

  logic [1:0] size;
  logic [N-1:0] halted, credit_mode, channel_irq;
  dma_common_regs #(
      .H2C(H2C),
      .C2H(C2H)
  ) u_common (
      .clk,
      .rst_n(engine_rst_n),
      .write_config(write_first && write_target == xdma_regs_pkg::TARGET_CONFIG),
      .write_common(write_first && write_target == xdma_regs_pkg::TARGET_COMMON),
      .write_offset,
      .write_mask,
      .write_data,
      .read_offset,
      .config_data,
      .common_data,
      .max_payload,
      .max_read_request,
      .size,
      .halted,
      .credit_mode
  );

  dma_irq #(
      .CHANNELS  (N),
      .ACK_CYCLES(ACK_CYCLES)
  ) u_irq (
      .clk,
      .rst_n(engine_rst_n),
      .write(write_first && write_target == xdma_regs_pkg::TARGET_IRQ),
      .write_offset,
      .write_mask,
      .write_data,
      .read_offset,
      .read_data(irq_data),
      .channel_source(channel_irq),
      .user_source(user_irq),
      .irq_req,
      .irq_ack
  );

  // Clients of the ports. Reads of host memory: payload of the H2C channels, then descriptors of all channels. Writes to host
  // memory: payload of the C2H channels, then write-backs of all channels.
  localparam int HR = H2C + N;
  localparam int HW = C2H + N;
  logic [HR*ADDR_W-1:0] hr_addr;
  logic [HR*8-1:0] hr_len;
  logic [HR-1:0] hr_fixed, hr_valid, hr_ready, hr_data_valid, hr_data_ready;
  logic [HW*ADDR_W-1:0] hw_addr;
  logic [HW*8-1:0] hw_len;
  logic [HW-1:0] hw_fixed, hw_valid, hw_ready, hw_data_valid, hw_data_ready, hw_resp_valid;
  logic [HW*DATA_W-1:0] hw_data;
  logic [HW*STRB_W-1:0] hw_strb;
  logic [C2H*ADDR_W-1:0] cr_addr;
  logic [C2H*8-1:0] cr_len;
  logic [C2H-1:0] cr_fixed, cr_valid, cr_ready, cr_data_valid, cr_data_ready;
  logic [H2C*ADDR_W-1:0] cw_addr;
  logic [H2C*8-1:0] cw_len;
  logic [H2C-1:0] cw_fixed, cw_valid, cw_ready, cw_data_valid, cw_data_ready, cw_resp_valid;
  logic [H2C*DATA_W-1:0] cw_data;
  logic [H2C*STRB_W-1:0] cw_strb;
  logic [DATA_W-1:0] host_data, card_data;
  logic [1:0] host_read_resp, card_read_resp, host_write_resp, card_write_resp;
  logic host_last, card_last;

  genvar i;
  generate
    for (i = 0; i < N; i = i + 1) begin : g_channel
      localparam bit TO_CARD = i < H2C;
      localparam int INDEX = TO_CARD ? i : i - H2C;
      localparam int F = H2C + i;  // its client for descriptors
      localparam int B = C2H + i;  // its client for write-backs

      logic start, run, fixed, write_back_on, errors, permitted, running, busy, finished, moved;
      logic [63:0] first, write_back;
      logic [5:0] first_adjacent;
      logic [23:0] logged, raised;
      logic [9:0] allowance;
      logic [6:0] requested;
      logic [31:0] count;
      wire [3:0] target = TO_CARD ? xdma_regs_pkg::TARGET_H2C : xdma_regs_pkg::TARGET_C2H;
      wire [3:0] sgdma_target = TO_CARD ? xdma_regs_pkg::TARGET_H2C_SGDMA : xdma_regs_pkg::TARGET_C2H_SGDMA;
      wire writes = write && write_addr[31:16] == '0 && write_addr[11:8] == 4'(INDEX);
      wire reads = read && read_addr[31:16] == '0 && read_addr[11:8] == 4'(INDEX);

      dma_channel_regs #(
          .TO_CARD(TO_CARD),
          .INDEX  (INDEX)
      ) u_regs (
          .clk,
          .rst_n(engine_rst_n),
          .write_channel(writes && write_target == target),
          .write_sgdma(writes && write_target == sgdma_target),
          .write_offset,
          .write_mask,
          .write_data,
          .read_channel(reads && read_target == target),
          .read_offset,
          .channel_data(channel_data[32*i+:32]),
          .sgdma_data(sgdma_data[32*i+:32]),
          .halted(halted[i]),
          .credit_mode(credit_mode[i]),
          .start,
          .first,
          .first_adjacent,
          .run,
          .logged,
          .fixed,
          .write_back_on,
          .write_back,
          .errors,
          .permitted,
          .allowance,
          .requested,
          .count,
          .raised,
          .running,
          .busy,
          .finished,
          .moved,
          .irq(channel_irq[i])
      );

      logic [ADDR_W-1:0] d_araddr, d_awaddr;
      logic [7:0] d_arlen, d_awlen;
      logic [DATA_W-1:0] d_wdata;
      logic [STRB_W-1:0] d_wstrb;
      logic d_arfixed, d_arvalid, d_rready, d_awfixed, d_awvalid, d_wvalid;
      wire d_arready = TO_CARD ? hr_ready[INDEX%H2C] : cr_ready[INDEX%C2H];
      wire d_rvalid = TO_CARD ? hr_data_valid[INDEX%H2C] : cr_data_valid[INDEX%C2H];
      wire d_awready = TO_CARD ? cw_ready[INDEX%H2C] : hw_ready[INDEX%C2H];
      wire d_wready = TO_CARD ? cw_data_ready[INDEX%H2C] : hw_data_ready[INDEX%C2H];
      wire d_bvalid = TO_CARD ? cw_resp_valid[INDEX%H2C] : hw_resp_valid[INDEX%C2H];
      if (TO_CARD) begin : g_to_card
        assign hr_addr[INDEX*ADDR_W+:ADDR_W] = d_araddr;
        assign hr_len[INDEX*8+:8] = d_arlen;
        assign {hr_fixed[INDEX], hr_valid[INDEX], hr_data_ready[INDEX]} = {d_arfixed, d_arvalid, d_rready};
        assign cw_addr[INDEX*ADDR_W+:ADDR_W] = d_awaddr;
        assign cw_len[INDEX*8+:8] = d_awlen;
        assign {cw_fixed[INDEX], cw_valid[INDEX]} = {d_awfixed, d_awvalid};
        assign cw_data[INDEX*DATA_W+:DATA_W] = d_wdata;
        assign cw_strb[INDEX*STRB_W+:STRB_W] = d_wstrb;
        assign cw_data_valid[INDEX] = d_wvalid;
      end else begin : g_to_host
        assign cr_addr[INDEX*ADDR_W+:ADDR_W] = d_araddr;
        assign cr_len[INDEX*8+:8] = d_arlen;
        assign {cr_fixed[INDEX], cr_valid[INDEX], cr_data_ready[INDEX]} = {d_arfixed, d_arvalid, d_rready};
        assign hw_addr[INDEX*ADDR_W+:ADDR_W] = d_awaddr;
        assign hw_len[INDEX*8+:8] = d_awlen;
        assign {hw_fixed[INDEX], hw_valid[INDEX]} = {d_awfixed, d_awvalid};
        assign hw_data[INDEX*DATA_W+:DATA_W] = d_wdata;
        assign hw_strb[INDEX*STRB_W+:STRB_W] = d_wstrb;
        assign hw_data_valid[INDEX] = d_wvalid;
      end
      assign channel_running[i] = running;
      assign {hr_fixed[F], hr_data_ready[F]} = 2'b01;
      assign hw_fixed[B] = 1'b0;
      assign hw_len[B*8+:8] = '0;

      dma_channel #(
          .TO_CARD(TO_CARD),
          .ADDR_W (ADDR_W),
          .READS  (READS),
          .WRITES (WRITES),
          .BUFFER (BUFFER)
      ) u_channel (
          .clk,
          .rst_n(engine_rst_n),
          .start,
          .first,
          .first_adjacent,
          .run,
          .logged,
          .fixed,
          .write_back_on,
          .write_back,
          .errors,
          .permitted,
          .allowance,
          .size,
          .cancel,
          .read_dead(TO_CARD ? 1'b0 : card_read_dead),
          .write_dead(TO_CARD ? card_write_dead : 1'b0),
          .requested,
          .count,
          .raised,
          .running,
          .busy,
          .finished,
          .moved,
          .f_araddr(hr_addr[F*ADDR_W+:ADDR_W]),
          .f_arlen(hr_len[F*8+:8]),
          .f_arvalid(hr_valid[F]),
          .f_arready(hr_ready[F]),
          .f_rvalid(hr_data_valid[F]),
          .f_rdata(host_data),
          .f_rresp(host_read_resp),
          .f_rlast(host_last),
          .d_araddr,
          .d_arlen,
          .d_arfixed,
          .d_arvalid,
          .d_arready,
          .d_rvalid,
          .d_rready,
          .d_rdata(TO_CARD ? host_data : card_data),
          .d_rresp(TO_CARD ? host_read_resp : card_read_resp),
          .d_rlast(TO_CARD ? host_last : card_last),
          .d_awaddr,
          .d_awlen,
          .d_awfixed,
          .d_awvalid,
          .d_awready,
          .d_wdata,
          .d_wstrb,
          .d_wvalid,
          .d_wready,
          .d_bresp(TO_CARD ? card_write_resp : host_write_resp),
          .d_bvalid,
          .b_awaddr(hw_addr[B*ADDR_W+:ADDR_W]),
          .b_awvalid(hw_valid[B]),
          .b_awready(hw_ready[B]),
          .b_wdata(hw_data[B*DATA_W+:DATA_W]),
          .b_wstrb(hw_strb[B*STRB_W+:STRB_W]),
          .b_wvalid(hw_data_valid[B]),
          .b_wready(hw_data_ready[B]),
          .b_bvalid(hw_resp_valid[B])
      );
    end
  endgenerate

  logic host_read_progress, host_write_progress;
  dma_read_arbiter #(
      .N(HR),
      .DATA_W(DATA_W),
      .ADDR_W(ADDR_W),
      .ID_W(HOST_ID_W),
      .READS(READS)
  ) u_host_read (
      .clk,
      .rst_n(engine_rst_n),
      .c_araddr(hr_addr),
      .c_arlen(hr_len),
      .c_arfixed(hr_fixed),
      .c_arvalid(hr_valid),
      .c_arready(hr_ready),
      .c_rdata(host_data),
      .c_rresp(host_read_resp),
      .c_rlast(host_last),
      .c_rvalid(hr_data_valid),
      .c_rready(hr_data_ready),
      `AXI4_READ_CONNECT(m_axi_, m_host_, m_host_),
      .dead(1'b0),
      .quiet(host_read_quiet),
      .progress(host_read_progress)
  );
  dma_write_arbiter #(
      .N(HW),
      .DATA_W(DATA_W),
      .ADDR_W(ADDR_W),
      .ID_W(HOST_ID_W),
      .WRITES(WRITES)
  ) u_host_write (
      .clk,
      .rst_n(engine_rst_n),
      .c_awaddr(hw_addr),
      .c_awlen(hw_len),
      .c_awfixed(hw_fixed),
      .c_awvalid(hw_valid),
      .c_awready(hw_ready),
      .c_wdata(hw_data),
      .c_wstrb(hw_strb),
      .c_wvalid(hw_data_valid),
      .c_wready(hw_data_ready),
      .c_bresp(host_write_resp),
      .c_bvalid(hw_resp_valid),
      `AXI4_WRITE_CONNECT(m_axi_, m_host_, m_host_),
      .dead(1'b0),
      .quiet(host_write_quiet),
      .progress(host_write_progress)
  );
  dma_read_arbiter #(
      .N(C2H),
      .DATA_W(DATA_W),
      .ADDR_W(ADDR_W),
      .ID_W(CARD_ID_W),
      .READS(READS)
  ) u_card_read (
      .clk,
      .rst_n(engine_rst_n),
      .c_araddr(cr_addr),
      .c_arlen(cr_len),
      .c_arfixed(cr_fixed),
      .c_arvalid(cr_valid),
      .c_arready(cr_ready),
      .c_rdata(card_data),
      .c_rresp(card_read_resp),
      .c_rlast(card_last),
      .c_rvalid(cr_data_valid),
      .c_rready(cr_data_ready),
      `AXI4_READ_CONNECT(m_axi_, m_card_, m_card_),
      .dead(card_read_dead),
      .quiet(card_read_quiet),
      .progress(card_read_progress)
  );
  dma_write_arbiter #(
      .N(H2C),
      .DATA_W(DATA_W),
      .ADDR_W(ADDR_W),
      .ID_W(CARD_ID_W),
      .WRITES(WRITES)
  ) u_card_write (
      .clk,
      .rst_n(engine_rst_n),
      .c_awaddr(cw_addr),
      .c_awlen(cw_len),
      .c_awfixed(cw_fixed),
      .c_awvalid(cw_valid),
      .c_awready(cw_ready),
      .c_wdata(cw_data),
      .c_wstrb(cw_strb),
      .c_wvalid(cw_data_valid),
      .c_wready(cw_data_ready),
      .c_bresp(card_write_resp),
      .c_bvalid(cw_resp_valid),
      `AXI4_WRITE_CONNECT(m_axi_, m_card_, m_card_),
      .dead(card_write_dead),
      .quiet(card_write_quiet),
      .progress(card_write_progress)
  );

  wire unused = &{1'b0, host_read_progress, host_write_progress, write_addr[1:0], read_addr[1:0]};
endmodule

`default_nettype wire
