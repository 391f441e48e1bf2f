// In place of `bn254_pkg` where only the number of windows matters: scalars of four bits.
package bn254_pkg;
  localparam int SCALAR_BITS = 4;
endpackage
