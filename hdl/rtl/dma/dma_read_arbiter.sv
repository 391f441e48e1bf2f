`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// Combines the read requests of N clients on an AXI4 port. The ID is the number of the client.
module dma_read_arbiter #(
    parameter int N = 2,
    parameter int DATA_W = 512,
    parameter int ADDR_W = 64,
    parameter int ID_W = 4,
    // Requests under way on the port.
    parameter int READS = 64
) (
    input wire clk,
    input wire rst_n,

    input  wire  [N*ADDR_W-1:0] c_araddr,
    input  wire  [     N*8-1:0] c_arlen,
    input  wire  [       N-1:0] c_arfixed,
    input  wire  [       N-1:0] c_arvalid,
    output logic [       N-1:0] c_arready,
    // Shared by all clients.
    output logic [  DATA_W-1:0] c_rdata,
    output logic [         1:0] c_rresp,
    output logic                c_rlast,
    output logic [       N-1:0] c_rvalid,
    input  wire  [       N-1:0] c_rready,

    `AXI4_READ_MASTER_PORTS(m_axi_, ID_W, ADDR_W, DATA_W)

    // The port is dead: no request is sent, and responses are dropped.
    input  wire  dead,
    // Nothing is under way; a handshake takes place.
    output logic quiet,
    output logic progress
);
  localparam int NW = (N > 1) ? $clog2(N) : 1;
  localparam int CW = $clog2(READS + 1);
  `PARAMETER_CHECK(dma_read_arbiter_N, N >= 1, "dma_read_arbiter: N must be at least 1")
  `PARAMETER_CHECK(dma_read_arbiter_DATA_W, DATA_W >= 16 && (DATA_W & (DATA_W - 1)) == 0,
                   "dma_read_arbiter: DATA_W must be a power of two of at least 16")
  `PARAMETER_CHECK(dma_read_arbiter_ADDR_W, ADDR_W >= 1, "dma_read_arbiter: ADDR_W must be at least 1")
  `PARAMETER_CHECK(dma_read_arbiter_ID_W, ID_W >= NW, "dma_read_arbiter: ID_W must be at least log2(N)")
  `PARAMETER_CHECK(dma_read_arbiter_READS, READS >= 1, "dma_read_arbiter: READS must be at least 1")

  logic [NW-1:0] index;
  logic granted, ar_ready;
  logic [CW-1:0] reads;  // under way
  wire send = granted && !dead && reads != CW'(READS);
  wire finish = m_axi_rvalid && m_axi_rready && m_axi_rlast;

  dma_grant #(
      .N(N)
  ) u_grant (
      .clk,
      .rst_n,
      .request(c_arvalid),
      .index,
      .valid  (granted),
      .taken  (send && ar_ready)
  );

  logic fixed;
  skid #(
      .W(ID_W + ADDR_W + 8 + 1)
  ) u_ar (
      .clk,
      .rst_n,
      .s_data ({ID_W'(index), c_araddr[index*ADDR_W+:ADDR_W], c_arlen[index*8+:8], c_arfixed[index]}),
      .s_valid(send),
      .s_ready(ar_ready),
      .m_data ({m_axi_arid, m_axi_araddr, m_axi_arlen, fixed}),
      .m_valid(m_axi_arvalid),
      .m_ready(m_axi_arready)
  );
  assign m_axi_arburst = fixed ? msm_pkg::FIXED : msm_pkg::INCR;
  assign m_axi_arsize  = 3'($clog2(DATA_W / 8));

  logic [ID_W-1:0] id;
  logic r_valid, r_ready;
  skid #(
      .W(ID_W + DATA_W + 2 + 1)
  ) u_r (
      .clk,
      .rst_n,
      .s_data ({m_axi_rid, m_axi_rdata, m_axi_rresp, m_axi_rlast}),
      .s_valid(m_axi_rvalid),
      .s_ready(m_axi_rready),
      .m_data ({id, c_rdata, c_rresp, c_rlast}),
      .m_valid(r_valid),
      .m_ready(r_ready)
  );

  integer i;
  always_comb begin
    c_arready = '0;
    c_rvalid  = '0;
    r_ready   = dead;
    for (i = 0; i < N; i = i + 1) begin
      if (index == NW'(i)) c_arready[i] = send && ar_ready;
      if (id == ID_W'(i) && !dead) begin
        c_rvalid[i] = r_valid;
        r_ready = c_rready[i];
      end
    end
  end

  always_ff @(posedge clk) begin
    if (!rst_n) reads <= '0;
    else reads <= reads + CW'(send && ar_ready) - CW'(finish);
  end
  assign quiet = reads == '0 && !r_valid;
  assign progress = (m_axi_arvalid && m_axi_arready) || (m_axi_rvalid && m_axi_rready);
endmodule

`default_nettype wire
