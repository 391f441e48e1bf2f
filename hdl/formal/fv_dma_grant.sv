`default_nettype none

// Proves the round-robin arbiter: it grants a client that requests, whenever there is one, and passes no client over more than
// once for each of the others.
module fv_dma_grant (
    input wire       clk,
    input wire       rst_n,
    input wire [3:0] request,
    input wire       taken
);
  localparam int N = 4;
  (* anyconst *)
  logic [1:0] watched;
  logic [1:0] index;
  logic valid;
  dma_grant #(.N(N)) dut (.*);

  logic past = 1'b0;
  logic [3:0] passed;  // clients that were preferred to the watched one since it requests
  wire waits = request[watched] && !(valid && taken && index == watched);
  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n || !waits) passed <= '0;
    else if (valid && taken) passed[index] <= 1'b1;
    if (past && rst_n) begin
      assert (valid == (request != '0));
      if (valid) assert (request[index]);
      if (valid && request[watched]) assert (!passed[index]);
      cover (valid && index == watched && passed == 4'b1101);
    end
  end
endmodule

`default_nettype wire
