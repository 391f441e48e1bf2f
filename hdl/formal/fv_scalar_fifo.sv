`default_nettype none

// Proves the scalar FIFO. Scalars are numbered as they enter, two per beat, and must leave in that order, except for dropped
// padding.
module fv_scalar_fifo (
    input wire clk,
    input wire rst_n,
    input wire flush,
    input wire s_valid,
    input wire m_ready,
    input wire m_last,
    input wire abort
);
  logic s_ready, m_valid, padding;
  logic [3:0] m_data;
  logic [2:0] level, free;
  logic [2:0] beat;  // number of the next beat
  logic [3:0] next;  // number of the next scalar to leave
  logic past = 1'b0;
  wire [3:0] even = {next[3:1], 1'b0};

  scalar_fifo #(
      .DATA_W(8),
      .DEPTH (6)
  ) dut (
      .s_data({beat, 1'b1, beat, 1'b0}),
      .*
  );

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      beat <= '0;
      next <= '0;
    end else if (past) begin
      assume (!(abort && m_ready));
      if (s_valid && s_ready) beat <= beat + 1'b1;
      // A beat that enters during a flush is lost too.
      if (flush) next <= {(s_valid && s_ready) ? beat + 3'd1 : beat, 1'b0};
      else if (abort && next[0]) next <= even + 4'd2;
      else if (m_valid && m_ready) next <= m_last ? even + 4'd2 : next + 1'b1;

      assert ({1'b0, level} == {beat, 1'b0} - next);
      if (m_valid) assert (m_data == next);
      if (m_valid && m_ready && m_last) assert (padding == !next[0]);
      assert (level <= 3'd6 && level + free <= 3'd6 && free[0] == 1'b0);
      assert (s_ready == (free != '0));
      cover (padding && beat == 3'd6 && level == 3'd5);
    end
  end
endmodule

`default_nettype wire
