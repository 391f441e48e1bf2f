`default_nettype none

`include "parameter_check.svh"

// Synchronous first-word fall-through FIFO of any depth. The memory is read into an output register, so it maps to block RAM.
// `flush` empties the FIFO and also discards a word pushed in the same cycle.
module sfifo #(
    parameter  int W  = 8,
    parameter  int D  = 16,
    localparam int LW = $clog2(D + 1)
) (
    input  wire           clk,
    input  wire           rst_n,
    input  wire           flush,
    input  wire  [ W-1:0] s_data,
    input  wire           s_valid,
    output logic          s_ready,
    output logic [ W-1:0] m_data,
    output logic          m_valid,
    input  wire           m_ready,
    output logic [LW-1:0] level     // includes the word at the output
);
  `PARAMETER_CHECK(sfifo_W, W >= 1, "sfifo: W must be at least 1")
  `PARAMETER_CHECK(sfifo_D, D >= 1, "sfifo: D must be at least 1")

  localparam int AW = (D > 1) ? $clog2(D) : 1;
  localparam logic [AW-1:0] TOP = AW'(D - 1);

  logic [W-1:0] mem[0:D-1];
  logic [AW-1:0] wr, rd;
  logic [LW-1:0] stored;  // words in `mem`

  wire push = s_valid && s_ready;
  wire load = (stored != '0) && (!m_valid || m_ready);

  assign level   = stored + LW'(m_valid);
  assign s_ready = level != LW'(D);

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

`ifdef FORMAL
  // Follows word number f_watch, modulo 256: it must leave with the data it entered with, unless a flush dropped it.
  (* anyconst *)
  logic [7:0] f_watch;
  logic [7:0] f_in, f_out;
  logic [W-1:0] f_data;
  logic f_past = 1'b0;
  wire [7:0] f_ahead = f_watch - f_out;
  // The word's position in `mem`, if it is there.
  wire [7:0] f_from = 8'(rd) + f_ahead - 8'(m_valid);
  wire [AW-1:0] f_slot = AW'((f_from >= 8'(D)) ? f_from - 8'(D) : f_from);
  wire [7:0] f_end = 8'(rd) + 8'(stored);
  always_ff @(posedge clk) begin
    f_past <= 1'b1;
    if (!f_past) assume (!rst_n);
    if (!rst_n || flush) begin
      f_in  <= '0;
      f_out <= '0;
    end else begin
      if (push) f_in <= f_in + 1'b1;
      if (push && f_in == f_watch) f_data <= s_data;
      if (m_valid && m_ready) f_out <= f_out + 1'b1;
    end
    if (f_past && rst_n) begin
      assert (f_in - f_out == 8'(level));
      assert (8'(stored) + 8'(m_valid) <= 8'(D));
      assert (8'(wr) < 8'(D) && 8'(rd) < 8'(D));
      assert (8'(wr) == ((f_end >= 8'(D)) ? f_end - 8'(D) : f_end));
      if (m_valid && f_ahead == 8'd0) assert (m_data == f_data);
      else if (f_ahead < 8'(level)) assert (mem[f_slot] == f_data);
      if ($past(rst_n && m_valid && !m_ready && !flush)) assert (m_valid && $stable(m_data));
      // A stored word does not get stuck: the output is valid in the next cycle.
      if ($past(rst_n && !flush && stored != '0)) assert (m_valid);
      cover (!s_ready && f_out == 8'd2);
    end
  end
`endif
endmodule

`default_nettype wire
