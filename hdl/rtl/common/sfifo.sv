// Synchronous FIFO of any depth: first word falls through, memory and output are registers, so block RAM fits.
// `flush` empties it; what is pushed in the same cycle is lost too.
module sfifo #(
    parameter  int W  = 8,
    parameter  int D  = 16,
    localparam int LW = $clog2(D + 1)
) (
    input  logic          clk,
    input  logic          rst_n,
    input  logic          flush,
    input  logic [ W-1:0] s_data,
    input  logic          s_valid,
    output logic          s_ready,
    output logic [ W-1:0] m_data,
    output logic          m_valid,
    input  logic          m_ready,
    output logic [LW-1:0] level     // the word at the output included
);
  localparam int AW = (D > 1) ? $clog2(D) : 1;
  localparam logic [AW-1:0] TOP = AW'(D - 1);

  logic [W-1:0] mem[0:D-1];
  logic [AW-1:0] wr, rd;
  logic [LW-1:0] stored;  // words in `mem`

  wire push = s_valid && s_ready;
  wire load = (stored != '0) && (!m_valid || m_ready);

  assign level   = stored + LW'(m_valid);
  assign s_ready = level != LW'(D);

  initial if (D < 1) $error("sfifo: D must be at least 1");

  always_ff @(posedge clk) begin
    if (push) mem[wr] <= s_data;
    if (load) m_data <= mem[rd];
    if (!rst_n || flush) begin
      wr <= '0;
      rd <= '0;
      stored <= '0;
      m_valid <= 1'b0;
    end else begin
      if (push) wr <= (wr == TOP) ? '0 : wr + 1'b1;
      if (load) rd <= (rd == TOP) ? '0 : rd + 1'b1;
      stored <= stored + LW'(push) - LW'(load);
      if (load) m_valid <= 1'b1;
      else if (m_ready) m_valid <= 1'b0;
    end
  end
endmodule
