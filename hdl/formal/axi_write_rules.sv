`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// What AXI4 demands on the write channels: of the master assumed, of the slave asserted. All B come in the order of their AW, as one
// in-order slave gives them; WLAST may be wrong, as a broken master's is.
module axi_write_rules #(
    parameter int ID_W   = 2,
    parameter int ADDR_W = 32,
    parameter int DATA_W = 16
) (
    `AXI4_WRITE_MONITOR(, , ID_W, ADDR_W, DATA_W)
    input wire clk,
    input wire rst_n
);
  `PARAMETER_CHECK(axi_write_rules_ID_W, ID_W >= 1, "axi_write_rules: ID_W must be at least 1")
  `PARAMETER_CHECK(axi_write_rules_ADDR_W, ADDR_W >= 1, "axi_write_rules: ADDR_W must be at least 1")
  `PARAMETER_CHECK(axi_write_rules_DATA_W, DATA_W >= 8 && DATA_W % 8 == 0, "axi_write_rules: DATA_W must be a multiple of 8")

  logic past = 1'b0;
  logic [7:0] addresses, ends, answers;
  (* anyconst *)
  logic [7:0] watch;
  logic [ID_W-1:0] watch_id;

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {addresses, ends, answers} <= '0;
    end else if (past) begin
      if (awvalid && awready) addresses <= addresses + 1'b1;
      if (awvalid && awready && addresses == watch) watch_id <= awid;
      if (wvalid && wready && wlast) ends <= ends + 1'b1;
      if (bvalid && bready) answers <= answers + 1'b1;

      // A source keeps what it offers.
      if ($past(rst_n && awvalid && !awready))
        assume (awvalid && $stable({awid, awaddr, awlen, awsize, awburst}));
      if ($past(rst_n && wvalid && !wready)) assume (wvalid && $stable({wdata, wstrb, wlast}));
      if ($past(rst_n && bvalid && !bready)) assert (bvalid && $stable({bid, bresp}));

      // B only for a burst whose address and last beat were taken, with its ID.
      if (bvalid) assert (answers < addresses && answers < ends);
      if (bvalid && answers == watch) assert (bid == watch_id);
      if (bvalid) assert (bresp != 2'b01);
      // Nobody counts further in a bounded run.
      assume (addresses < 8'd250 && ends < 8'd250);
    end
  end
endmodule

`default_nettype wire
