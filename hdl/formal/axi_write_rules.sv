`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// The AXI4 rules of the write channels, assumed for the master and asserted for the slave. All B arrive in the order of their AW,
// as from a single in-order slave. WLAST may be wrong, as from a faulty master.
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

      // A source holds its payload until the handshake.
      if ($past(rst_n && awvalid && !awready))
        assume (awvalid && $stable({awid, awaddr, awlen, awsize, awburst}));
      if ($past(rst_n && wvalid && !wready)) assume (wvalid && $stable({wdata, wstrb, wlast}));
      if ($past(rst_n && bvalid && !bready)) assert (bvalid && $stable({bid, bresp}));

      // A B is sent only after the address and the last beat of its burst, with the burst's ID.
      if (bvalid) assert (answers < addresses && answers < ends);
      if (bvalid && answers == watch) assert (bid == watch_id);
      if (bvalid) assert (bresp != 2'b01);
      // The counters do not overflow in a bounded run.
      assume (addresses < 8'd250 && ends < 8'd250);
    end
  end
endmodule

`default_nettype wire
