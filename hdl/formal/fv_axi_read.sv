`default_nettype none

`include "axi_ports.svh"

// Proves the read half of the slave: every burst has the requested number of beats with RLAST on the last, and responses are in
// order, have the right IDs and are held until accepted. The master may read any address with any burst of whole, aligned beats.
module fv_axi_read (
    `AXI4_READ_PORTS(, , 2, 32, 16)
    input wire clk,
    input wire rst_n
);
  logic scratch_read, err_decode;
  logic [15:0] scratch_data;
  logic [18:0] scratch_addr;

  axi_read #(
      .DATA_W(16),
      .ADDR_W(32),
      .ID_W(2),
      .ARQ(2)
  ) dut (
      .clk,
      .rst_n,
      `AXI4_READ_CONNECT(s_axi_, , ),
      .result_data({48{16'hcafe}}),
      .scratch_read,
      .scratch_addr,
      .scratch_data,
      .err_decode
  );
  // A memory in which every word equals its own address.
  always_ff @(posedge clk) if (scratch_read) scratch_data <= scratch_addr[15:0];

  (* anyconst *)
  logic [7:0] watch;
  logic [7:0] asked, given;
  logic [8:0] beats;  // of the burst that is being returned
  logic [1:0] watch_id, watch_burst;
  logic [31:0] watch_addr;
  logic [7:0] watch_len;
  logic past = 1'b0;
  wire watched = rvalid && given == watch;
  wire linear = !watch_burst[1];
  // All beats are full width, which makes the expected data simple.
  wire [31:0] here = (watch_burst == 2'b00) ? watch_addr : watch_addr + {22'd0, beats, 1'b0};

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {asked, given, beats} <= '0;
    end else if (past) begin
      if ($past(rst_n && arvalid && !arready))
        assume (arvalid && $stable({arid, araddr, arlen, arsize, arburst}));
      if (arvalid) assume (arsize == 3'd1 && !araddr[0]);
      assume (asked < 8'd250);
      if (arvalid && arready) begin
        asked <= asked + 1'b1;
        if (asked == watch) {watch_id, watch_addr, watch_len, watch_burst} <= {arid, araddr, arlen, arburst};
      end
      if (rvalid && rready) begin
        beats <= rlast ? '0 : beats + 1'b1;
        if (rlast) given <= given + 1'b1;
      end
      if ($past(rst_n && rvalid && !rready)) assert (rvalid && $stable({rid, rdata, rresp, rlast}));
      if (rvalid) assert (given < asked);
      if (watched) begin
        assert (rid == watch_id && rlast == (beats == {1'b0, watch_len}));
        if (watch_addr[31:28] == 4'h4 || watch_addr[31:28] == 4'h5)
          assert (rresp == (linear ? 2'b00 : 2'b10));
        else assert (rresp == 2'b11 && rdata == '0);
        if (watch_addr[31:28] == 4'h5 && linear) assert (rdata == here[16:1]);
        if (watch_addr[31:28] == 4'h4 && linear)
          assert (rdata == ((here[27:1] < 27'd48) ? 16'hcafe : 16'd0));
      end
      cover (watched && rlast && watch_len == 8'd2 && watch == 8'd1 && rresp == 2'b00);
    end
  end
endmodule

`default_nettype wire
