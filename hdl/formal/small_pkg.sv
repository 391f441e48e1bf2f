`default_nettype none

// Replaces `bn254_pkg` where only the number of windows matters: scalars have four bits.
package bn254_pkg;  // verilog_lint: waive package-filename
  localparam int SCALAR_BITS = 4;
endpackage

`default_nettype wire
