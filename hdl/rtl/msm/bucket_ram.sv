// The buckets: one write port, one read port with a register.
module bucket_ram #(
    parameter  int DEPTH = 16,
    localparam int A = $clog2(DEPTH)
) (
    input  logic         clk,
    input  logic         write,
    input  logic [A-1:0] write_addr,
    input  logic [767:0] write_data,
    input  logic [A-1:0] read_addr,
    output logic [767:0] read_data
);
  (* ram_style = "ultra" *)
  logic [767:0] mem[0:DEPTH-1];

  always_ff @(posedge clk) begin
    if (write) mem[write_addr] <= write_data;
    read_data <= mem[read_addr];
  end
endmodule
