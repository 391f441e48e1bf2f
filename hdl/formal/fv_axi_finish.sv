`default_nettype none

// Proves axi_finish: what the master offers passes unchanged, until it was silent for `CYCLES` clocks (at most two more) while data was
// due. From then on, only beats without strobes are sent, to a ready slave, which waits for none, and the master may send anything. Every
// burst has as many beats as its address says.
module fv_axi_finish (
    input wire       clk,
    input wire       rst_n,
    input wire       aw_taken,
    input wire [7:0] awlen,
    input wire [7:0] s_wdata,
    input wire       s_wstrb,
    input wire       s_wlast,
    input wire       s_wvalid,
    input wire       m_wready
);
  localparam int CYCLES = 3;
  logic s_wready, m_wstrb, m_wlast, m_wvalid;
  logic [7:0] m_wdata;
  axi_finish #(
      .DATA_W(8),
      .QUEUE (2),
      .CYCLES(CYCLES)
  ) dut (
      .clk,
      .rst_n,
      .aw_taken,
      .awlen,
      .s_wdata,
      .s_wstrb,
      .s_wlast,
      .s_wvalid,
      .s_wready,
      .m_wdata,
      .m_wstrb,
      .m_wlast,
      .m_wvalid,
      .m_wready
  );

  logic past = 1'b0;
  // Addresses taken, and the same one clock earlier; bursts ended, and beats of the current burst.
  logic [3:0] bursts, known, ended;
  logic [3:0] beats;
  logic [31:0] lens;  // the lengths of all bursts, two bits each
  // Clocks without data from the master while it is due, and bursts that were finished for it.
  logic [3:0] silent, finished;
  wire [1:0] len = lens[2*ended+:2];
  wire due = bursts != ended;
  // Whether the master may, and whether it must have been given up.
  logic may, must;
  wire passes = s_wready == m_wready && m_wvalid == s_wvalid
      && (!s_wvalid || {m_wdata, m_wstrb, m_wlast} == {s_wdata, s_wstrb, s_wlast});
  wire finishes = s_wready && m_wvalid == m_wready && (!m_wvalid || due && !m_wstrb);

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {bursts, known, ended, beats, silent, finished, may, must} <= '0;
    end else if (past) begin
      // The slave accepts no data earlier than two clocks after its address, and has at most two bursts at a time.
      assume (awlen < 8'd4 && bursts != 4'd15);
      assume (!aw_taken || bursts - ended < 4'd2);
      known <= bursts;
      if (known == ended) assume (!m_wready);
      // The master marks the last beat.
      if (s_wvalid && !must) assume (s_wlast == (beats == {2'b00, len}));
      if ($past(rst_n && s_wvalid && !s_wready)) assume (s_wvalid && $stable({s_wdata, s_wstrb, s_wlast}));

      if (aw_taken) begin
        bursts <= bursts + 1'b1;
        lens[2*bursts+:2] <= awlen[1:0];
      end
      silent <= (due && !s_wvalid) ? silent + (silent != 4'd15) : '0;

      may  <= may || silent >= CYCLES - 1;
      must <= must || silent >= CYCLES + 1 || !passes;
      assert (passes || may && finishes);
      if (must) assert (finishes);
      if (m_wvalid && m_wready) begin
        assert (m_wlast == (beats == {2'b00, len}));
        beats <= m_wlast ? '0 : beats + 1'b1;
        if (m_wlast) begin
          ended <= ended + 1'b1;
          silent <= '0;
          if (!s_wvalid) finished <= finished + 1'b1;
        end
      end
      cover (finished == 4'd2 && ended == 4'd3);
    end
  end
endmodule

`default_nettype wire
