`default_nettype none

`include "parameter_check.svh"

// Scratch memory for bring-up: one write port with byte enables, one read port with an output register. A reset does not clear
// it.
module scratch_ram #(
    parameter  int DATA_W = 512,
    parameter  int A = 14,
    localparam int STRB_W = DATA_W / 8
) (
    input  wire               clk,
    input  wire               write,
    input  wire  [     A-1:0] write_addr,
    input  wire  [STRB_W-1:0] write_strb,
    input  wire  [DATA_W-1:0] write_data,
    input  wire               read,
    input  wire  [     A-1:0] read_addr,
    output logic [DATA_W-1:0] read_data
);
  `PARAMETER_CHECK(scratch_ram_DATA_W, DATA_W >= 8 && DATA_W % 8 == 0, "scratch_ram: DATA_W must be a multiple of 8")
  `PARAMETER_CHECK(scratch_ram_A, A >= 1 && A <= 30, "scratch_ram: A must be 1 to 30")

  (* ram_style = "ultra" *)
  logic [DATA_W-1:0] mem[0:(1<<A)-1];

  integer i;
  always_ff @(posedge clk) begin
    if (write)
      for (i = 0; i < STRB_W; i = i + 1)
      if (write_strb[i]) mem[write_addr][8*i+:8] <= write_data[8*i+:8];
    if (read) read_data <= mem[read_addr];
  end
endmodule

`default_nettype wire
