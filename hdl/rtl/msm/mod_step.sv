`default_nettype none

`include "parameter_check.svh"

// One registered step of a modular reduction: a - M if that is not negative, otherwise a. The step computes only while `enable`
// is high, which saves power and much simulation time.
module mod_step #(
    parameter logic [255:0] M = bn254_pkg::P
) (
    input  wire          clk,
    input  wire          enable,
    input  wire  [255:0] a,
    output logic [255:0] y,
    // y is nonzero.
    output logic         some
);
  `PARAMETER_CHECK(mod_step_M, M != '0, "mod_step: M must not be 0")

  function automatic logic [255:0] reduced(input logic [255:0] v);
    logic [256:0] less;
    less = {1'b0, v} - {1'b0, M};
    reduced = less[256] ? v : less[255:0];
  endfunction

  always_ff @(posedge clk)
    if (enable) begin
      y <= reduced(a);
      some <= a != '0 && a != M;
    end
endmodule

`default_nettype wire
