`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// Combines the bursts of N clients on an AXI4 port. The ID is the number of the client. The data of a burst follows that of the
// burst whose address was granted before it.
module dma_write_arbiter #(
    parameter int N = 2,
    parameter int DATA_W = 512,
    parameter int ADDR_W = 64,
    parameter int ID_W = 4,
    // Bursts under way on the port.
    parameter int WRITES = 32,
    localparam int STRB_W = DATA_W / 8
) (
    input wire clk,
    input wire rst_n,

    input  wire  [N*ADDR_W-1:0] c_awaddr,
    input  wire  [     N*8-1:0] c_awlen,
    input  wire  [       N-1:0] c_awfixed,
    input  wire  [       N-1:0] c_awvalid,
    output logic [       N-1:0] c_awready,
    input  wire  [N*DATA_W-1:0] c_wdata,
    input  wire  [N*STRB_W-1:0] c_wstrb,
    input  wire  [       N-1:0] c_wvalid,
    output logic [       N-1:0] c_wready,
    // Shared by all clients, which always accept it.
    output logic [         1:0] c_bresp,
    output logic [       N-1:0] c_bvalid,

    `AXI4_WRITE_MASTER_PORTS(m_axi_, ID_W, ADDR_W, DATA_W)

    // The port is dead: no burst is sent, the data of those sent is empty, and responses are dropped.
    input  wire  dead,
    // Nothing is under way; a handshake takes place.
    output logic quiet,
    output logic progress
);
  localparam int NW = (N > 1) ? $clog2(N) : 1;
  localparam int CW = $clog2(WRITES + 1);
  // Bursts whose address was granted before the data of the first of them is complete.
  localparam int AHEAD = 2;
  `PARAMETER_CHECK(dma_write_arbiter_N, N >= 1, "dma_write_arbiter: N must be at least 1")
  `PARAMETER_CHECK(dma_write_arbiter_DATA_W, DATA_W >= 16 && (DATA_W & (DATA_W - 1)) == 0,
                   "dma_write_arbiter: DATA_W must be a power of two of at least 16")
  `PARAMETER_CHECK(dma_write_arbiter_ADDR_W, ADDR_W >= 1, "dma_write_arbiter: ADDR_W must be at least 1")
  `PARAMETER_CHECK(dma_write_arbiter_ID_W, ID_W >= NW, "dma_write_arbiter: ID_W must be at least log2(N)")
  `PARAMETER_CHECK(dma_write_arbiter_WRITES, WRITES >= 1, "dma_write_arbiter: WRITES must be at least 1")

  logic [NW-1:0] index, turn;
  logic granted, aw_ready, turn_ready, turn_valid, w_ready, fixed;
  logic [1:0] turns;
  logic [CW-1:0] writes;  // under way
  wire send = granted && !dead && turn_ready && writes != CW'(WRITES);
  wire finish = m_axi_bvalid && m_axi_bready;

  dma_grant #(
      .N(N)
  ) u_grant (
      .clk,
      .rst_n,
      .request(c_awvalid),
      .index,
      .valid  (granted),
      .taken  (send && aw_ready)
  );

  skid #(
      .W(ID_W + ADDR_W + 8 + 1)
  ) u_aw (
      .clk,
      .rst_n,
      .s_data ({ID_W'(index), c_awaddr[index*ADDR_W+:ADDR_W], c_awlen[index*8+:8], c_awfixed[index]}),
      .s_valid(send),
      .s_ready(aw_ready),
      .m_data ({m_axi_awid, m_axi_awaddr, m_axi_awlen, fixed}),
      .m_valid(m_axi_awvalid),
      .m_ready(m_axi_awready)
  );
  assign m_axi_awburst = fixed ? msm_pkg::FIXED : msm_pkg::INCR;
  assign m_axi_awsize  = 3'($clog2(STRB_W));

  // The clients whose data is next.
  logic [7:0] turn_len, beat;
  wire w_valid = turn_valid && (c_wvalid[turn] || dead);
  wire last = beat == turn_len;
  wire [STRB_W-1:0] strobes = dead ? '0 : c_wstrb[turn*STRB_W+:STRB_W];
  sfifo #(
      .W(8 + NW),
      .D(AHEAD)
  ) u_turns (
      .clk,
      .rst_n,
      .flush(1'b0),
      .s_data({c_awlen[index*8+:8], index}),
      .s_valid(send && aw_ready),
      .s_ready(turn_ready),
      .m_data({turn_len, turn}),
      .m_valid(turn_valid),
      .m_ready(w_valid && w_ready && last),
      .level(turns)
  );

  skid #(
      .W(DATA_W + STRB_W + 1)
  ) u_w (
      .clk,
      .rst_n,
      .s_data ({c_wdata[turn*DATA_W+:DATA_W], strobes, last}),
      .s_valid(w_valid),
      .s_ready(w_ready),
      .m_data ({m_axi_wdata, m_axi_wstrb, m_axi_wlast}),
      .m_valid(m_axi_wvalid),
      .m_ready(m_axi_wready)
  );

  logic [ID_W-1:0] id;
  logic b_valid;
  assign m_axi_bready = 1'b1;

  integer i;
  always_comb begin
    c_awready = '0;
    c_wready  = '0;
    c_bvalid  = '0;
    for (i = 0; i < N; i = i + 1) begin
      if (index == NW'(i)) c_awready[i] = send && aw_ready;
      if (turn == NW'(i)) c_wready[i] = turn_valid && w_ready && !dead;
      if (id == ID_W'(i)) c_bvalid[i] = b_valid && !dead;
    end
  end

  always_ff @(posedge clk) begin
    id <= m_axi_bid;
    c_bresp <= m_axi_bresp;
    if (!rst_n) begin
      b_valid <= 1'b0;
      writes  <= '0;
      beat    <= '0;
    end else begin
      if (w_valid && w_ready) beat <= last ? '0 : beat + 1'b1;
      b_valid <= finish;
      writes  <= writes + CW'(send && aw_ready) - CW'(finish);
    end
  end
  assign quiet = writes == '0 && !b_valid;
  assign progress = (m_axi_awvalid && m_axi_awready) || (m_axi_wvalid && m_axi_wready) || finish;

  wire unused = &{1'b0, turns};
endmodule

`default_nettype wire
