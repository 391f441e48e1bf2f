`default_nettype none

`include "parameter_check.svh"

// Finishes the bursts of a master that stops in the middle of a write. If it offers no data for `CYCLES` clocks although it sent the
// address, then from there on, until a reset, all bursts get beats without strobes, and data from the master is discarded: it could
// belong to any of its writes. READY of the slave must not depend on VALID.
module axi_finish #(
    parameter int DATA_W = 512,
    // Bursts that can be under way between address and last data.
    parameter int QUEUE = 16,
    parameter int CYCLES = 4096
) (
    input  wire                 clk,
    input  wire                 rst_n,
    // An address is taken, with this length.
    input  wire                 aw_taken,
    input  wire  [         7:0] awlen,
    // Data from the master, and to the slave.
    input  wire  [  DATA_W-1:0] s_wdata,
    input  wire  [DATA_W/8-1:0] s_wstrb,
    input  wire                 s_wlast,
    input  wire                 s_wvalid,
    output logic                s_wready,
    output logic [  DATA_W-1:0] m_wdata,
    output logic [DATA_W/8-1:0] m_wstrb,
    output logic                m_wlast,
    output logic                m_wvalid,
    input  wire                 m_wready
);
  `PARAMETER_CHECK(axi_finish_DATA_W, DATA_W >= 8 && DATA_W % 8 == 0, "axi_finish: DATA_W must be a multiple of 8")
  `PARAMETER_CHECK(axi_finish_QUEUE, QUEUE >= 1, "axi_finish: QUEUE must be at least 1")
  `PARAMETER_CHECK(axi_finish_CYCLES, CYCLES >= 2, "axi_finish: CYCLES must be at least 2")

  localparam int CW = $clog2(CYCLES);

  logic open;  // the data of a burst is due
  logic [7:0] len, beats;
  logic room;
  logic [$clog2(QUEUE+1)-1:0] level;
  wire taken = m_wvalid && m_wready;
  sfifo #(
      .W(8),
      .D(QUEUE)
  ) u_lens (
      .clk,
      .rst_n,
      .flush  (1'b0),
      .s_data (awlen),
      .s_valid(aw_taken),
      .s_ready(room),
      .m_data (len),
      .m_valid(open),
      .m_ready(taken && m_wlast),
      .level
  );

  logic [CW-1:0] waits;
  logic given_up;
  wire silent = open && !s_wvalid;
  assign s_wready = m_wready || given_up;
  assign m_wvalid = given_up ? open && m_wready : s_wvalid;
  assign m_wdata  = s_wdata;
  assign m_wstrb  = given_up ? '0 : s_wstrb;
  assign m_wlast  = given_up ? beats == len : s_wlast;

  always_ff @(posedge clk) begin
    if (!rst_n) begin
      beats <= '0;
      waits <= '0;
      given_up <= 1'b0;
    end else begin
      if (taken) beats <= m_wlast ? '0 : beats + 1'b1;
      waits <= silent ? waits + 1'b1 : '0;
      if (silent && waits == CW'(CYCLES - 1)) given_up <= 1'b1;
    end
  end

  wire unused = &{1'b0, room, level};
endmodule

`default_nettype wire
