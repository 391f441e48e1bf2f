`default_nettype none

// The three field multipliers side by side.
module unit_fp_mul (
    input  wire          clk,
    input  wire          rst_n,
    input  wire  [511:0] in,     // {b, a}
    output logic [767:0] out     // {dpi, tiled, behav}, 26 cycles later
);
  localparam int ML = 26;
  fp_mul #(
      .ML(ML),
      .FP_IMPL(msm_pkg::FP_BEHAV)
  ) u_behav (
      .clk,
      .a(in[255:0]),
      .b(in[511:256]),
      .y(out[255:0])
  );
  fp_mul #(
      .ML(ML),
      .FP_IMPL(msm_pkg::FP_TILED)
  ) u_tiled (
      .clk,
      .a(in[255:0]),
      .b(in[511:256]),
      .y(out[511:256])
  );
  fp_mul #(
      .ML(ML),
      .FP_IMPL(msm_pkg::FP_DPI)
  ) u_dpi (
      .clk,
      .a(in[255:0]),
      .b(in[511:256]),
      .y(out[767:512])
  );
endmodule

`default_nettype wire
