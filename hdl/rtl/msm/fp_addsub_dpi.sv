`default_nettype none

// `fp_addsub` in C (`hdl/sim/cpp/fp.cpp`), only for simulation with Verilator.
module fp_addsub_dpi #(
    parameter bit SUB = 1'b0
) (
    input  wire  [255:0] a,
    input  wire  [255:0] b,
    output logic [255:0] y
);
  import "DPI-C" pure function void msm_fp_add(
    input  bit [255:0] a,
    input  bit [255:0] b,
    output bit [255:0] y
  );
  import "DPI-C" pure function void msm_fp_sub(
    input  bit [255:0] a,
    input  bit [255:0] b,
    output bit [255:0] y
  );

  bit [255:0] r;
  generate
    if (SUB) begin : g_sub
      always_comb msm_fp_sub(a, b, r);
    end else begin : g_add
      always_comb msm_fp_add(a, b, r);
    end
  endgenerate
  assign y = r;
endmodule

`default_nettype wire
