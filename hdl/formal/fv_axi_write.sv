`default_nettype none

`include "axi_ports.svh"

// Proves the write half of the slave between a master that may break every rule except the handshake, and FIFOs that are ready at
// arbitrary times.
// CLEAN: the master sends only valid bursts to the FIFO windows, and every beat must arrive at its window exactly once and in
// order.
module fv_axi_write #(
    parameter bit CLEAN = 1'b0
) (
    input wire clk,
    input wire rst_n,
    `AXI4_WRITE_PORTS(, , 2, 32, 16)
    input wire scalar_ready,
    input wire point_ready,
    input wire dropping
);
  logic wr_full, scalar_valid, point_valid, scratch_write;
  logic err_decode, err_strobe, err_wlast, err_burst;
  logic [15:0] data;
  logic [18:0] scratch_addr;
  logic [1:0] scratch_strb;

  axi_write #(
      .DATA_W(16),
      .ADDR_W(32),
      .ID_W(2),
      .AWQ(3)
  ) dut (
      .clk,
      .rst_n,
      `AXI4_WRITE_CONNECT(s_axi_, , ),
      .wr_full,
      .data,
      .scalar_valid,
      .scalar_ready,
      .point_valid,
      .point_ready,
      .scratch_write,
      .scratch_addr,
      .scratch_strb,
      .dropping,
      .err_decode,
      .err_strobe,
      .err_wlast,
      .err_burst
  );
  axi_write_rules rules (.*);

  logic past = 1'b0;
  always_ff @(posedge clk) past <= 1'b1;

  generate
    if (CLEAN) begin : g_clean
      // `watch` is the number of a beat; `watch_burst` is the number of a burst that may contain it.
      (* anyconst *)
      logic [7:0] watch;
      (* anyconst *)
      logic [7:0] watch_burst;
      logic [7:0] addresses, ends, beats, out;
      logic [8:0] left;  // beats of the current burst after this one
      logic [15:0] watch_data;
      logic to_scalars, known;

      always_ff @(posedge clk) begin
        if (!rst_n) begin
          {addresses, ends, beats, out, known} <= '0;
        end else if (past) begin
          assume (!dropping);
          if (awvalid) begin
            assume (awaddr[31:28] == 4'h1 || awaddr[31:28] == 4'h2);
            assume (!awaddr[0] && awsize == 3'd1 && awburst == 2'b01 && awlen < 8'd3);
          end
          // Here data follows its address, so that WLAST can be correct; the other run covers both orders.
          if (wvalid) assume (addresses > ends && wstrb == 2'b11 && wlast == (left == '0));
          if (awvalid && addresses != ends) assume (!awready);
          if (awvalid && awready) begin
            addresses <= addresses + 1'b1;
            left <= {1'b0, awlen};
            if (addresses == watch_burst) to_scalars <= awaddr[31:28] == 4'h1;
          end
          if (wvalid && wready) begin
            beats <= beats + 1'b1;
            left  <= left - 1'b1;
            if (wlast) ends <= ends + 1'b1;
            if (beats == watch) begin
              watch_data <= wdata;
              known <= ends == watch_burst;
            end
          end
          assert (!(scalar_valid && point_valid) && !scratch_write);
          if ((scalar_valid && scalar_ready) || (point_valid && point_ready)) out <= out + 1'b1;
          assert (out <= beats);
          if (scalar_valid || point_valid) begin
            assert (out < beats);
            if (out == watch) assert (data == watch_data);
            if (out == watch && known) assert (scalar_valid == to_scalars);
          end
          if (bvalid) assert (bresp == 2'b00);
          assert (!err_decode && !err_strobe && !err_wlast && !err_burst);
          cover (known && out == 8'd3 && bvalid);
        end
      end
    end else begin : g_broken
      // Each error response is counted exactly once: every counted response is pending or was accepted.
      logic [7:0] counted, given;
      always_ff @(posedge clk) begin
        if (!rst_n) begin
          {counted, given} <= '0;
        end else begin
          counted <= counted + 8'(err_burst);
          given   <= given + 8'(bvalid && bready && bresp != 2'b00);
          if (past && !bvalid) assert (counted == given);
          if (past && bvalid) assert (8'(counted - given) >= 8'(bresp != 2'b00));
          if (past) assert (8'(counted - given) <= 8'd2);
        end
      end
      always_ff @(posedge clk)
        if (rst_n && past) begin
          // A beat goes to one destination at most, and an invalid beat to none.
          assert (32'(scalar_valid) + 32'(point_valid) + 32'(scratch_write) <= 1);
          if (dropping) assert (!scalar_valid && !point_valid);
          if (scalar_valid) assert (!err_strobe && !err_decode);
          // A beat that waits for room stays valid and stable.
          if ($past(rst_n && point_valid && !point_ready && !dropping) && !dropping)
            assert (point_valid && $stable(data));
          cover (bvalid && bresp == 2'b10 && $past(err_wlast, 2));
          cover (bvalid && bresp == 2'b11);
        end
    end
  endgenerate
endmodule

`default_nettype wire
