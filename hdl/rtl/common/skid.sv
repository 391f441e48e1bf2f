// A register stage whose READY is a register too: what was on its way when the sink stopped waits in `held`.
module skid #(
    parameter int W = 8
) (
    input  logic         clk,
    input  logic         rst_n,
    input  logic [W-1:0] s_data,
    input  logic         s_valid,
    output logic         s_ready,
    output logic [W-1:0] m_data,
    output logic         m_valid,
    input  logic         m_ready
);
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
endmodule
