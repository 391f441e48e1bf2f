`default_nettype none

// Proves axi_finish: what the master offers passes unchanged; nothing else is sent but beats without strobes, to a ready slave, after the
// master was silent for `CYCLES` clocks although data was due; every burst has as many beats as its address says; and a silent master
// does not keep a ready slave waiting for longer.
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
  // Addresses taken, also a clock ago; bursts ended, and beats of the current burst.
  logic [3:0] bursts, known, ended;
  logic [3:0] beats;
  logic [31:0] lens;  // the lengths of all bursts, two bits each
  // Clocks without data from the master while it is due, and bursts that were finished for it.
  logic [3:0] silent, finished;
  wire [1:0] len = lens[2*ended+:2];
  wire due = bursts != ended;

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {bursts, known, ended, beats, silent, finished} <= '0;
    end else if (past) begin
      // The slave takes data from two clocks after its address on, and has at most two bursts at a time.
      assume (awlen < 8'd4 && bursts != 4'd15);
      assume (!aw_taken || bursts - ended < 4'd2);
      known <= bursts;
      if (known == ended) assume (!m_wready);
      // The master marks the last beat.
      if (s_wvalid) assume (s_wlast == (beats == {2'b00, len}));
      if ($past(rst_n && s_wvalid && !s_wready)) assume (s_wvalid && $stable({s_wdata, s_wstrb, s_wlast}));

      if (aw_taken) begin
        bursts <= bursts + 1'b1;
        lens[2*bursts+:2] <= awlen[1:0];
      end
      silent <= (due && !s_wvalid) ? silent + (silent != 4'd15) : '0;

      assert (s_wready == m_wready);
      if (s_wvalid) assert (m_wvalid && {m_wdata, m_wstrb, m_wlast} == {s_wdata, s_wstrb, s_wlast});
      if (m_wvalid && !s_wvalid) assert (m_wready && due && !m_wstrb && silent >= CYCLES);
      if (m_wvalid && m_wready) begin
        assert (m_wlast == (beats == {2'b00, len}));
        beats <= m_wlast ? '0 : beats + 1'b1;
        if (m_wlast) begin
          ended <= ended + 1'b1;
          silent <= '0;
          if (!s_wvalid) finished <= finished + 1'b1;
        end
      end
      // The length arrives two clocks after the address.
      if (m_wready && silent >= CYCLES + 2) assert (m_wvalid);

      cover (finished == 4'd2 && ended == 4'd3);
    end
  end
endmodule

`default_nettype wire
