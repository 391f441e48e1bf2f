`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// The write half of the AXI4 slave. It processes bursts in order, passes each beat to the window of its burst, and sends one B
// per burst.
//
// A beat for a full FIFO waits and blocks everything behind it, because AXI4 has a single write channel. A burst is discarded up
// to WLAST and gets an error response if it is outside all windows, goes to a read-only window, or goes to a FIFO window and does
// not consist of whole, aligned beats.
module axi_write #(
    parameter int DATA_W = 512,
    parameter int ADDR_W = 64,
    parameter int ID_W = 6,
    // Bursts that can be queued.
    parameter int AWQ = 32,
    localparam int STRB_W = DATA_W / 8,
    localparam int SIZE = $clog2(STRB_W),
    localparam int SCRATCH_A = $clog2(msm_regs_pkg::SCRATCH_SIZE) - SIZE
) (
    input wire clk,
    input wire rst_n,

    `AXI4_WRITE_PORTS(s_axi_, s_axi_, ID_W, ADDR_W, DATA_W)

    // The burst queue is nearly full.
    output logic wr_full,

    output logic [DATA_W-1:0] data,
    output logic              scalar_valid,
    input  wire               scalar_ready,
    output logic              point_valid,
    input  wire               point_ready,

    output logic                 scratch_write,
    output logic [SCRATCH_A-1:0] scratch_addr,
    output logic [   STRB_W-1:0] scratch_strb,

    // The watchdog fired: FIFO windows respond SLVERR.
    input  wire  dropping,
    output logic err_decode,
    output logic err_strobe,
    output logic err_wlast,
    // A burst with an error response ends.
    output logic err_burst
);
  `PARAMETER_CHECK(axi_write_DATA_W, DATA_W >= 16 && DATA_W <= 1024 && (DATA_W & (DATA_W - 1)) == 0,
                   "axi_write: DATA_W must be a power of two, 16 to 1024")
  `PARAMETER_CHECK(axi_write_ADDR_W, ADDR_W >= 32 && ADDR_W <= 64, "axi_write: ADDR_W must be 32 to 64")
  `PARAMETER_CHECK(axi_write_ID_W, ID_W >= 1, "axi_write: ID_W must be at least 1")
  `PARAMETER_CHECK(axi_write_AWQ, AWQ >= 1, "axi_write: AWQ must be at least 1")

  localparam int AW_W = ID_W + ADDR_W + 8 + 3 + 2;
  localparam int LW = $clog2(AWQ + 1);
  localparam int SCRATCH_B = SCRATCH_A + SIZE;

  logic [ID_W-1:0] id;
  logic [ADDR_W-1:0] addr;
  logic [7:0] len;
  logic [2:0] size;
  logic [1:0] burst;
  logic aw_valid, aw_take;
  logic [LW-1:0] aw_level;

  sfifo #(
      .W(AW_W),
      .D(AWQ)
  ) u_aw (
      .clk,
      .rst_n,
      .flush(1'b0),
      .s_data({s_axi_awid, s_axi_awaddr, s_axi_awlen, s_axi_awsize, s_axi_awburst}),
      .s_valid(s_axi_awvalid),
      .s_ready(s_axi_awready),
      .m_data({id, addr, len, size, burst}),
      .m_valid(aw_valid),
      .m_ready(aw_take),
      .level(aw_level)
  );
  assign wr_full = aw_level >= LW'(AWQ - AWQ / 4);

  logic [STRB_W-1:0] strb;
  logic last, w_valid, w_take;

  skid #(
      .W(DATA_W + STRB_W + 1)
  ) u_w (
      .clk,
      .rst_n,
      .s_data ({s_axi_wdata, s_axi_wstrb, s_axi_wlast}),
      .s_valid(s_axi_wvalid),
      .s_ready(s_axi_wready),
      .m_data ({data, strb, last}),
      .m_valid(w_valid),
      .m_ready(w_take)
  );

  logic b_ready;
  logic [1:0] resp;

  skid #(
      .W(ID_W + 2)
  ) u_b (
      .clk,
      .rst_n,
      .s_data ({id, resp}),
      .s_valid(aw_take),
      .s_ready(b_ready),
      .m_data ({s_axi_bid, s_axi_bresp}),
      .m_valid(s_axi_bvalid),
      .m_ready(s_axi_bready)
  );

  logic scalar, point, result, scratch, none;
  axi_window #(
      .ADDR_W(ADDR_W)
  ) u_window (
      .addr,
      .scalar,
      .point,
      .result,
      .scratch,
      .none
  );

  // The burst at the head of the queue.
  logic [8:0] beat;  // beats accepted, at most len + 1
  logic refused;  // an earlier beat of the burst was refused
  logic [SCRATCH_B-1:0] next_addr;

  wire fifo = scalar || point;
  wire linear = burst == msm_pkg::FIXED || burst == msm_pkg::INCR;
  wire late = beat > {1'b0, len};
  wire at_end = beat == {1'b0, len};
  wire whole = linear && size == 3'(SIZE) && addr[SIZE-1:0] == '0 && (&strb);

  wire bad_strobe = result || (fifo && !whole) || (scratch && !linear);
  wire bad_last = (last != at_end) && !late;
  wire refuse = refused || none || bad_strobe || (fifo && dropping) || late;

  wire beat_valid = aw_valid && w_valid && (!last || b_ready);
  assign scalar_valid = beat_valid && scalar && !refuse;
  assign point_valid = beat_valid && point && !refuse;
  assign w_take = beat_valid && (!scalar_valid || scalar_ready) && (!point_valid || point_ready);
  assign aw_take = w_take && last;

  always_comb begin
    if (none) resp = msm_pkg::DECERR;
    else if (refuse || bad_last) resp = msm_pkg::SLVERR;
    else resp = msm_pkg::OKAY;
  end

  wire [SCRATCH_B-1:0] here = (beat == '0) ? addr[SCRATCH_B-1:0] : next_addr;
  wire [SCRATCH_B-1:0] step = SCRATCH_B'(1) << size;
  assign scratch_write = w_take && scratch && !refuse;
  assign scratch_addr = here[SCRATCH_B-1:SIZE];
  assign scratch_strb = strb;

  assign err_decode = w_take && none;
  assign err_strobe = w_take && bad_strobe && !late;
  assign err_wlast = w_take && bad_last;
  assign err_burst = aw_take && resp != msm_pkg::OKAY;

  always_ff @(posedge clk) begin
    // After an unaligned start, INCR continues with aligned addresses.
    if (w_take) next_addr <= (burst == msm_pkg::FIXED) ? here : (here & ~(step - 1'b1)) + step;
    if (!rst_n) begin
      beat <= '0;
      refused <= 1'b0;
    end else if (w_take) begin
      beat <= last ? '0 : late ? beat : beat + 1'b1;
      refused <= !last && (refuse || bad_last);
    end
  end

  wire unused = &{1'b0, next_addr[SIZE-1:0], here[SIZE-1:0]};
endmodule

`default_nettype wire
