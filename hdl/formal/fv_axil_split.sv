`default_nettype none

`include "axi_ports.svh"

// Proves axil_split: each access reaches the side of its address once, with its offset on that side, its data and its strobes;
// only the response of that side is returned; and nothing gets stuck. Addresses below 16 belong to `low_`.
module fv_axil_split (
    input wire clk,
    `AXIL_PORTS(s_, s_)
    `AXIL_MASTER_PORTS(low_)
    `AXIL_MASTER_PORTS(high_)
    input wire rst_n
);
  axil_split #(
      .BITS(4)
  ) dut (
      .clk,
      .rst_n,
      `AXIL_CONNECT(s_axil_, s_, s_),
      `AXIL_CONNECT(low_, low_, low_),
      `AXIL_CONNECT(high_, high_, high_)
  );

  logic past = 1'b0;
  (* anyconst *)
  logic [3:0] watched;
  // Counts: addresses and data taken, those sent, and responses. The watched write and read are followed.
  logic [3:0] aw_in, w_in, aw_out, w_out, b_out, ar_in, ar_out, r_out;
  logic [31:0] write_addr, write_data, read_addr;
  logic [ 3:0] write_strb;
  // Whether each side accepted something that it has not answered: bit 0 for `low_`, bit 1 for `high_`.
  logic [1:0] aw_owed, w_owed, ar_owed;
  wire [1:0] aw_sent = {high_awvalid && high_awready, low_awvalid && low_awready};
  wire [1:0] w_sent = {high_wvalid && high_wready, low_wvalid && low_wready};
  wire [1:0] ar_sent = {high_arvalid && high_arready, low_arvalid && low_arready};
  wire [1:0] b_taken = {high_bvalid && high_bready, low_bvalid && low_bready};
  wire [1:0] r_taken = {high_rvalid && high_rready, low_rvalid && low_rready};
  wire write_high = write_addr >= 32'd16;
  wire read_high = read_addr >= 32'd16;

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {aw_in, w_in, aw_out, w_out, b_out, ar_in, ar_out, r_out} <= '0;
      {aw_owed, w_owed, ar_owed} <= '0;
    end else if (past) begin
      // The master and the two slaves.
      if ($past(rst_n)) begin
        if ($past(s_awvalid && !s_awready)) assume (s_awvalid && $stable(s_awaddr));
        if ($past(s_wvalid && !s_wready)) assume (s_wvalid && $stable({s_wdata, s_wstrb}));
        if ($past(s_arvalid && !s_arready)) assume (s_arvalid && $stable(s_araddr));
        if ($past(low_bvalid && !low_bready)) assume (low_bvalid && $stable(low_bresp));
        if ($past(high_bvalid && !high_bready)) assume (high_bvalid && $stable(high_bresp));
        if ($past(low_rvalid && !low_rready)) assume (low_rvalid && $stable({low_rdata, low_rresp}));
        if ($past(high_rvalid && !high_rready)) assume (high_rvalid && $stable({high_rdata, high_rresp}));
      end
      assume (({high_bvalid, low_bvalid} & ~(aw_owed & w_owed)) == '0);
      assume (({high_rvalid, low_rvalid} & ~ar_owed) == '0);
      assume (aw_in != 4'd15 && w_in != 4'd15 && ar_in != 4'd15);

      // What was taken.
      aw_in <= aw_in + 4'(s_awvalid && s_awready);
      w_in  <= w_in + 4'(s_wvalid && s_wready);
      ar_in <= ar_in + 4'(s_arvalid && s_arready);
      if (s_awvalid && s_awready && aw_in == watched) write_addr <= s_awaddr;
      if (s_wvalid && s_wready && w_in == watched) {write_data, write_strb} <= {s_wdata, s_wstrb};
      if (s_arvalid && s_arready && ar_in == watched) read_addr <= s_araddr;

      // What is sent: in order, once, and to one side.
      assert (!(low_awvalid && high_awvalid) && !(low_wvalid && high_wvalid) && !(low_arvalid && high_arvalid));
      if (low_awvalid || high_awvalid) assert (aw_out != aw_in);
      if (low_wvalid || high_wvalid) assert (w_out != w_in);
      if (low_arvalid || high_arvalid) assert (ar_out != ar_in);
      if ((low_awvalid || high_awvalid) && aw_out == watched)
        assert (high_awvalid == write_high && (write_high ? high_awaddr == write_addr - 32'd16 : low_awaddr == write_addr));
      if ((low_wvalid || high_wvalid) && w_out == watched)
        assert (high_wvalid == write_high && {write_data, write_strb} ==
                (write_high ? {high_wdata, high_wstrb} : {low_wdata, low_wstrb}));
      if ((low_arvalid || high_arvalid) && ar_out == watched)
        assert (high_arvalid == read_high && (read_high ? high_araddr == read_addr - 32'd16 : low_araddr == read_addr));
      if ($past(rst_n)) begin
        if ($past(low_awvalid && !low_awready)) assert (low_awvalid && $stable(low_awaddr));
        if ($past(high_awvalid && !high_awready)) assert (high_awvalid && $stable(high_awaddr));
        if ($past(low_wvalid && !low_wready)) assert (low_wvalid && $stable({low_wdata, low_wstrb}));
        if ($past(high_wvalid && !high_wready)) assert (high_wvalid && $stable({high_wdata, high_wstrb}));
        if ($past(low_arvalid && !low_arready)) assert (low_arvalid && $stable(low_araddr));
        if ($past(high_arvalid && !high_arready)) assert (high_arvalid && $stable(high_araddr));
      end
      aw_out  <= aw_out + 4'(aw_sent != '0);
      w_out   <= w_out + 4'(w_sent != '0);
      ar_out  <= ar_out + 4'(ar_sent != '0);
      aw_owed <= (aw_owed & ~b_taken) | aw_sent;
      w_owed  <= (w_owed & ~b_taken) | w_sent;
      ar_owed <= (ar_owed & ~r_taken) | ar_sent;

      // Responses: each is the side's own, and is taken from the side in the same cycle.
      assert ((s_bvalid && s_bready) == (b_taken != '0) && b_taken != 2'b11);
      assert ((s_rvalid && s_rready) == (r_taken != '0) && r_taken != 2'b11);
      if (s_bvalid) assert (b_out < aw_out && b_out < w_out);
      if (s_rvalid) assert (r_out < ar_out);
      if (s_bvalid && b_out == watched)
        assert (s_bresp == (write_high ? high_bresp : low_bresp) && (write_high ? high_bvalid : low_bvalid));
      if (s_rvalid && r_out == watched)
        assert ({s_rdata, s_rresp} == (read_high ? {high_rdata, high_rresp} : {low_rdata, low_rresp}) &&
                (read_high ? high_rvalid : low_rvalid));
      if ($past(rst_n && s_bvalid && !s_bready)) assert (s_bvalid && $stable(s_bresp));
      if ($past(rst_n && s_rvalid && !s_rready)) assert (s_rvalid && $stable({s_rdata, s_rresp}));
      b_out <= b_out + 4'(s_bvalid && s_bready);
      r_out <= r_out + 4'(s_rvalid && s_rready);

      // Progress: an idle port takes an access, and each access waits only for a side or for the master.
      if (aw_in == b_out && s_awvalid && s_wvalid) assert (s_awready && s_wready);
      if (ar_in == r_out && s_arvalid) assert (s_arready);
      if (aw_in != b_out)
        assert (low_awvalid || high_awvalid || low_wvalid || high_wvalid || s_bvalid || (aw_owed & w_owed) != '0);
      if (ar_in != r_out) assert (low_arvalid || high_arvalid || s_rvalid || ar_owed != '0);
      if ((low_bvalid && aw_owed[0]) || (high_bvalid && aw_owed[1])) assert (s_bvalid);
      if (low_rvalid || high_rvalid) assert (s_rvalid);
      cover (b_out == 4'd2 && r_out == 4'd2 && $past(high_bvalid) && $past(s_bresp == 2'b10));
    end
  end
endmodule

`default_nettype wire
