`default_nettype none

// In place of `bn254_pkg` where only the number of windows matters: scalars of four bits.
package bn254_pkg;  // verilog_lint: waive package-filename
  localparam int SCALAR_BITS = 4;
endpackage

`default_nettype wire
