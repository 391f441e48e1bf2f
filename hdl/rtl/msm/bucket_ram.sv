`default_nettype none

`include "parameter_check.svh"

// The bucket memory: one write port, one read port with an output register.
module bucket_ram #(
    parameter  int DEPTH = 16,
    localparam int A = $clog2(DEPTH)
) (
    input  wire          clk,
    input  wire          write,
    input  wire  [A-1:0] write_addr,
    input  wire  [767:0] write_data,
    input  wire  [A-1:0] read_addr,
    output logic [767:0] read_data
);
  `PARAMETER_CHECK(bucket_ram_DEPTH, DEPTH >= 2, "bucket_ram: DEPTH must be at least 2")

  (* ram_style = "ultra" *)
  logic [767:0] mem[0:DEPTH-1];

  always_ff @(posedge clk) begin
    if (write) mem[write_addr] <= write_data;
    read_data <= mem[read_addr];
  end
endmodule

`default_nettype wire
