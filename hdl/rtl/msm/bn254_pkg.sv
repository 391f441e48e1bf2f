`default_nettype none

// Constants of BN254: coordinates are modulo P, scalars modulo R; Montgomery form is with respect to 2^256.
package bn254_pkg;
  localparam logic [255:0] P = 256'h30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47;
  localparam logic [255:0] R = 256'h30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001;
  localparam logic [255:0] P2 = P << 1;
  // -P^-1 modulo 2^256.
  localparam logic [255:0] NINV = 256'hf57a22b791888c6bd8afcbd01833da809ede7d651eca6ac987d20782e4866389;
  // 1 in Montgomery form.
  localparam logic [255:0] ONE = 256'h0e0a77c19a07df2f666ea36f7879462c0a78eb28f5c70b3dd35d438dc58f0d9d;
  // The point at infinity, {z, y, x}.
  localparam logic [767:0] INFINITY = {256'd0, ONE, 256'd0};
  // 2^-256 modulo R: the factor that converts scalars from Montgomery form.
  localparam logic [255:0] R_INV = 256'h15ebf95182c5551cc8260de4aeb85d5d090ef5a9e111ec87dc5ba0056db1194e;
  // Bits of a scalar.
  localparam int SCALAR_BITS = 254;
endpackage

`default_nettype wire
