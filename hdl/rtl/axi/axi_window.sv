`default_nettype none

`include "parameter_check.svh"

// Decodes the window of an address. An address outside all windows (`none`) gets DECERR.
module axi_window #(
    parameter int ADDR_W = 64
) (
    input  wire  [ADDR_W-1:0] addr,
    output logic              scalar,
    output logic              point,
    output logic              result,
    output logic              scratch,
    output logic              none
);
  `PARAMETER_CHECK(axi_window_ADDR_W, ADDR_W >= 32 && ADDR_W <= 64, "axi_window: ADDR_W must be 32 to 64")

  localparam int LOW = $clog2(msm_regs_pkg::WINDOW_SIZE);
  wire [ADDR_W-1:LOW] base = addr[ADDR_W-1:LOW];

  assign scalar = base == msm_regs_pkg::SCALAR_WINDOW[ADDR_W-1:LOW];
  assign point = base == msm_regs_pkg::POINT_WINDOW[ADDR_W-1:LOW];
  assign result = base == msm_regs_pkg::RESULT_WINDOW[ADDR_W-1:LOW];
  assign scratch = base == msm_regs_pkg::SCRATCH_WINDOW[ADDR_W-1:LOW];
  assign none = !(scalar || point || result || scratch);

  wire unused = &{1'b0, addr[LOW-1:0]};
endmodule

`default_nettype wire
