// One step of a reduction: a, or a - M where that is not negative.
module mod_step #(
    parameter logic [255:0] M = bn254_pkg::P
) (
    input  logic [255:0] a,
    output logic [255:0] y
);
  wire [256:0] less = {1'b0, a} - {1'b0, M};
  assign y = less[256] ? a : less[255:0];
endmodule
