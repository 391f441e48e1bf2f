`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// The read half of the AXI4 slave. It returns the oldest result and the scratch memory, and responds DECERR elsewhere. A read
// never waits for the core.
module axi_read #(
    parameter int DATA_W = 512,
    parameter int ADDR_W = 64,
    parameter int ID_W = 6,
    // Bursts that can be queued.
    parameter int ARQ = 32,
    localparam int STRB_W = DATA_W / 8,
    localparam int SIZE = $clog2(STRB_W),
    localparam int RESULT_W = 8 * msm_regs_pkg::RESULT_BYTES,
    localparam int SCRATCH_A = $clog2(msm_regs_pkg::SCRATCH_SIZE) - SIZE
) (
    input wire clk,
    input wire rst_n,

    `AXI4_READ_PORTS(s_axi_, s_axi_, ID_W, ADDR_W, DATA_W)

    // Zero if no result is available.
    input wire [RESULT_W-1:0] result_data,

    // Data is valid one cycle after `scratch_read` and held while `scratch_read` is low.
    output logic                 scratch_read,
    output logic [SCRATCH_A-1:0] scratch_addr,
    input  wire  [   DATA_W-1:0] scratch_data,

    output logic err_decode
);
  `PARAMETER_CHECK(axi_read_DATA_W, DATA_W >= 16 && DATA_W <= 1024 && (DATA_W & (DATA_W - 1)) == 0,
                   "axi_read: DATA_W must be a power of two, 16 to 1024")
  `PARAMETER_CHECK(axi_read_ADDR_W, ADDR_W >= 32 && ADDR_W <= 64, "axi_read: ADDR_W must be 32 to 64")
  `PARAMETER_CHECK(axi_read_ID_W, ID_W >= 1, "axi_read: ID_W must be at least 1")
  `PARAMETER_CHECK(axi_read_ARQ, ARQ >= 1, "axi_read: ARQ must be at least 1")

  localparam int LOW = $clog2(msm_regs_pkg::WINDOW_SIZE);
  // Beats per result.
  localparam int BEATS = (RESULT_W + DATA_W - 1) / DATA_W;

  logic [ID_W-1:0] id;
  logic [ADDR_W-1:0] addr;
  logic [7:0] len;
  logic [2:0] size;
  logic [1:0] burst;
  logic ar_valid, ar_take;
  logic [$clog2(ARQ+1)-1:0] ar_level;

  sfifo #(
      .W(ID_W + ADDR_W + 8 + 3 + 2),
      .D(ARQ)
  ) u_ar (
      .clk,
      .rst_n,
      .flush(1'b0),
      .s_data({s_axi_arid, s_axi_araddr, s_axi_arlen, s_axi_arsize, s_axi_arburst}),
      .s_valid(s_axi_arvalid),
      .s_ready(s_axi_arready),
      .m_data({id, addr, len, size, burst}),
      .m_valid(ar_valid),
      .m_ready(ar_take),
      .level(ar_level)
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

  // First stage: the beat's address.
  logic [7:0] beat;
  logic [LOW-1:0] next_addr;
  logic fetch_valid, fetch_ready;
  wire [LOW-1:0] here = (beat == '0) ? addr[LOW-1:0] : next_addr;
  wire [LOW-1:0] step = LOW'(1) << size;
  wire linear = burst == msm_pkg::FIXED || burst == msm_pkg::INCR;
  wire last = beat == len;
  wire nowhere = none || scalar || point;
  wire take = ar_valid && (!fetch_valid || fetch_ready);

  assign ar_take = take && last;
  assign scratch_read = take;
  assign scratch_addr = here[SCRATCH_A+SIZE-1:SIZE];
  assign err_decode = take && nowhere;

  // A result is padded with zeros to whole beats; the rest of its window reads as zero.
  wire [LOW-SIZE-1:0] index = here[LOW-1:SIZE];
  wire [BEATS*DATA_W-1:0] padded = (BEATS * DATA_W)'(result_data);

  // Second stage: the beat's data, except scratch data, which is in the scratch memory's output register.
  logic [ID_W-1:0] fetch_id;
  logic [DATA_W-1:0] fetch_data;
  logic [1:0] fetch_resp;
  logic fetch_last, fetch_scratch;

  integer i;
  always_ff @(posedge clk) begin
    if (take) begin
      next_addr <= (burst == msm_pkg::FIXED) ? here : (here & ~(step - 1'b1)) + step;
      fetch_id <= id;
      fetch_data <= '0;
      for (i = 0; i < BEATS; i = i + 1)
      if (result && linear && index == (LOW - SIZE)'(i)) fetch_data <= padded[DATA_W*i+:DATA_W];
      fetch_resp <= nowhere ? msm_pkg::DECERR : linear ? msm_pkg::OKAY : msm_pkg::SLVERR;
      fetch_last <= last;
      fetch_scratch <= scratch && linear;
    end
    if (!rst_n) begin
      beat <= '0;
      fetch_valid <= 1'b0;
    end else begin
      if (take) beat <= last ? '0 : beat + 1'b1;
      if (take) fetch_valid <= 1'b1;
      else if (fetch_ready) fetch_valid <= 1'b0;
    end
  end

  skid #(
      .W(ID_W + DATA_W + 2 + 1)
  ) u_r (
      .clk,
      .rst_n,
      .s_data ({fetch_id, fetch_scratch ? scratch_data : fetch_data, fetch_resp, fetch_last}),
      .s_valid(fetch_valid),
      .s_ready(fetch_ready),
      .m_data ({s_axi_rid, s_axi_rdata, s_axi_rresp, s_axi_rlast}),
      .m_valid(s_axi_rvalid),
      .m_ready(s_axi_rready)
  );

  wire unused = &{1'b0, ar_level, next_addr[SIZE-1:0], here[SIZE-1:0]};
endmodule

`default_nettype wire
