`default_nettype none

`include "parameter_check.svh"

// A register stage with a registered READY. A word that is in flight when the sink stalls is kept in `held`.
module skid #(
    parameter int W = 8
) (
    input  wire          clk,
    input  wire          rst_n,
    input  wire  [W-1:0] s_data,
    input  wire          s_valid,
    output logic         s_ready,
    output logic [W-1:0] m_data,
    output logic         m_valid,
    input  wire          m_ready
);
  `PARAMETER_CHECK(skid_W, W >= 1, "skid: W must be at least 1")

  logic [W-1:0] held;
  logic         held_valid;
  wire          move = !m_valid || m_ready;

  assign s_ready = !held_valid;

  always_ff @(posedge clk) begin
    if (move) m_data <= held_valid ? held : s_data;
    if (s_ready) held <= s_data;
    if (!rst_n) begin
      m_valid <= 1'b0;
      held_valid <= 1'b0;
    end else if (move) begin
      m_valid <= held_valid || s_valid;
      held_valid <= 1'b0;
    end else if (s_valid) begin
      held_valid <= 1'b1;
    end
  end

`ifdef FORMAL
  // Follows word number f_watch, modulo 256: it must leave with the data it entered with.
  (* anyconst *)
  logic [7:0] f_watch;
  logic [7:0] f_in, f_out;
  logic [W-1:0] f_data;
  logic f_past = 1'b0;
  wire [7:0] f_ahead = f_watch - f_out;
  always_ff @(posedge clk) begin
    f_past <= 1'b1;
    if (!f_past) assume (!rst_n);
    if (!rst_n) begin
      f_in  <= '0;
      f_out <= '0;
    end else if (f_past) begin
      if (s_valid && s_ready) begin
        f_in <= f_in + 1'b1;
        if (f_in == f_watch) f_data <= s_data;
      end
      if (m_valid && m_ready) f_out <= f_out + 1'b1;
      assert (f_in - f_out == 8'(m_valid) + 8'(held_valid));
      assert (!held_valid || m_valid);
      if (m_valid && f_ahead == 8'd0) assert (m_data == f_data);
      if (held_valid && f_ahead == 8'd1) assert (held == f_data);
      if ($past(rst_n && m_valid && !m_ready)) assert (m_valid && $stable(m_data));
      cover (held_valid && f_out == 8'd3);
    end
  end
`endif
endmodule

`default_nettype wire
