`default_nettype none

`include "parameter_check.svh"

// Complete addition of projective points on y^2 = x^3 + 3 (Renes, Costello, Batina 2016, algorithm 7, with 3b = 9),
// without exceptional cases. Coordinates are below 2p and in Montgomery form.
//
// II = 1: twelve multipliers, one addition per cycle. II = 2: six multipliers that alternate between the two levels of products,
// one addition every second cycle, accepted while `in_ready` is high.
module ec_add #(
    // Latencies of a field product and of a field addition, in cycles.
    parameter int ML = 25,
    parameter int AL = 1,
    parameter int II = 1,
    parameter int FP_IMPL = msm_pkg::FP_TILED,
    // Width of the tag that accompanies each addition.
    parameter int TAG_W = 8
) (
    input  wire              clk,
    input  wire              rst_n,
    output logic             in_ready,
    input  wire              in_valid,
    input  wire  [TAG_W-1:0] in_tag,
    input  wire  [    767:0] p,          // {z, y, x}
    input  wire  [    767:0] q,
    output logic             out_valid,
    output logic [TAG_W-1:0] out_tag,
    output logic [    767:0] sum
);
  `PARAMETER_CHECK(ec_add_ML, ML >= 1, "ec_add: ML must be at least 1")
  `PARAMETER_CHECK(ec_add_AL, AL >= 1, "ec_add: AL must be at least 1")
  `PARAMETER_CHECK(ec_add_II, II >= 1 && II <= 2, "ec_add: II must be 1 or 2")
  `PARAMETER_CHECK(ec_add_FP_IMPL, FP_IMPL >= 0 && FP_IMPL <= 2, "ec_add: FP_IMPL must be 0, 1 or 2")
  `PARAMETER_CHECK(ec_add_TAG_W, TAG_W >= 1, "ec_add: TAG_W must be at least 1")

  // With shared multipliers, the second level's operands must arrive in an odd cycle.
  localparam int ODD = (II == 2) ? (ML + 6 * AL + 1) % 2 : 0;
  localparam int LAT = 2 * ML + 8 * AL + ODD;

  wire [255:0] x1 = p[255:0], y1 = p[511:256], z1 = p[767:512];
  wire [255:0] x2 = q[255:0], y2 = q[511:256], z2 = q[767:512];

  // Operands and products of the two levels.
  logic [6*256-1:0] a1, b1, m1, a2, b2, m2;

  // First level: x1 x2, y1 y2, z1 z2, (x1 + y1)(x2 + y2), (y1 + z1)(y2 + z2), (x1 + z1)(x2 + z2).
  delay #(.W(1536), .N(AL)) u_in (
      .clk,
      .d({z1, y1, x1, z2, y2, x2}),
      .q({a1[0+:768], b1[0+:768]})
  );
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xy1 (.clk, .a(x1), .b(y1), .y(a1[768+:256]));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xy2 (.clk, .a(x2), .b(y2), .y(b1[768+:256]));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_yz1 (.clk, .a(y1), .b(z1), .y(a1[1024+:256]));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_yz2 (.clk, .a(y2), .b(z2), .y(b1[1024+:256]));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xz1 (.clk, .a(x1), .b(z1), .y(a1[1280+:256]));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xz2 (.clk, .a(x2), .b(z2), .y(b1[1280+:256]));

  wire [255:0] xx = m1[0+:256], yy = m1[256+:256], zz = m1[512+:256];

  // Cross terms: x1 y2 + x2 y1, y1 z2 + y2 z1, x1 z2 + x2 z1.
  logic [255:0] xx_yy, yy_zz, xx_zz, mxy, myz, mxz, xy, yz, xz;
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xx_yy (.clk, .a(xx), .b(yy), .y(xx_yy));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_yy_zz (.clk, .a(yy), .b(zz), .y(yy_zz));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xx_zz (.clk, .a(xx), .b(zz), .y(xx_zz));
  delay #(.W(768), .N(AL)) u_m (.clk, .d(m1[768+:768]), .q({mxz, myz, mxy}));
  fp_addsub #(.SUB(1), .LAT(AL), .FP_IMPL(FP_IMPL)) u_xy (.clk, .a(mxy), .b(xx_yy), .y(xy));
  fp_addsub #(.SUB(1), .LAT(AL), .FP_IMPL(FP_IMPL)) u_yz (.clk, .a(myz), .b(yy_zz), .y(yz));
  fp_addsub #(.SUB(1), .LAT(AL), .FP_IMPL(FP_IMPL)) u_xz (.clk, .a(mxz), .b(xx_zz), .y(xz));

  // 3 xx.
  logic [255:0] xx2, xx_d, xx3;
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xx2 (.clk, .a(xx), .b(xx), .y(xx2));
  delay #(.W(256), .N(AL)) u_xx_d (.clk, .d(xx), .q(xx_d));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xx3 (.clk, .a(xx2), .b(xx_d), .y(xx3));

  // 9 zz, then yy + 9 zz and yy - 9 zz.
  logic [255:0] zz2, zz4, zz8, zz_d, zz9, yy_d, plus, minus;
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_zz2 (.clk, .a(zz), .b(zz), .y(zz2));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_zz4 (.clk, .a(zz2), .b(zz2), .y(zz4));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_zz8 (.clk, .a(zz4), .b(zz4), .y(zz8));
  delay #(.W(256), .N(3 * AL)) u_zz_d (.clk, .d(zz), .q(zz_d));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_zz9 (.clk, .a(zz8), .b(zz_d), .y(zz9));
  delay #(.W(256), .N(4 * AL)) u_yy_d (.clk, .d(yy), .q(yy_d));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_plus (.clk, .a(yy_d), .b(zz9), .y(plus));
  fp_addsub #(.SUB(1), .LAT(AL), .FP_IMPL(FP_IMPL)) u_minus (.clk, .a(yy_d), .b(zz9), .y(minus));

  // 9 xz.
  logic [255:0] xz2, xz4, xz8, xz_d, xz9;
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xz_2 (.clk, .a(xz), .b(xz), .y(xz2));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xz_4 (.clk, .a(xz2), .b(xz2), .y(xz4));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xz_8 (.clk, .a(xz4), .b(xz4), .y(xz8));
  delay #(.W(256), .N(3 * AL)) u_xz_d (.clk, .d(xz), .q(xz_d));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_xz_9 (.clk, .a(xz8), .b(xz_d), .y(xz9));

  // All six operands of the second level, aligned to 6 AL + ODD cycles after the products.
  logic [255:0] f_xy, f_yz, f_xx3, f_plus, f_minus, f_xz9;
  delay #(.W(768), .N(4 * AL + ODD)) u_f (.clk, .d({xy, yz, xx3}), .q({f_xy, f_yz, f_xx3}));
  delay #(.W(512), .N(AL + ODD)) u_pm (.clk, .d({plus, minus}), .q({f_plus, f_minus}));
  delay #(.W(256), .N(ODD)) u_xz9_d (.clk, .d(xz9), .q(f_xz9));

  assign a2 = {f_plus, f_xx3, f_minus, f_xz9, f_xy, f_yz};
  assign b2 = {f_yz, f_xy, f_plus, f_xx3, f_minus, f_xz9};

  // x3 = xy (yy - 9 zz) - yz 9 xz, y3 = (yy - 9 zz)(yy + 9 zz) + 9 xz 3 xx, z3 = (yy + 9 zz) yz + 3 xx xy.
  fp_addsub #(.SUB(1), .LAT(AL), .FP_IMPL(FP_IMPL)) u_x3 (.clk, .a(m2[256+:256]), .b(m2[0+:256]), .y(sum[255:0]));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_y3 (.clk, .a(m2[768+:256]), .b(m2[512+:256]), .y(sum[511:256]));
  fp_addsub #(.LAT(AL), .FP_IMPL(FP_IMPL)) u_z3 (.clk, .a(m2[1280+:256]), .b(m2[1024+:256]), .y(sum[767:512]));

  genvar i;
  generate
    if (II == 1) begin : g_twelve
      assign in_ready = 1'b1;
      for (i = 0; i < 6; i = i + 1) begin : g_mul
        fp_mul #(.ML(ML), .FP_IMPL(FP_IMPL)) u_1 (
            .clk, .a(a1[256*i+:256]), .b(b1[256*i+:256]), .y(m1[256*i+:256])
        );
        fp_mul #(.ML(ML), .FP_IMPL(FP_IMPL)) u_2 (
            .clk, .a(a2[256*i+:256]), .b(b2[256*i+:256]), .y(m2[256*i+:256])
        );
      end
    end else begin : g_six
      logic phase;
      always_ff @(posedge clk) phase <= rst_n && !phase;
      assign in_ready = !phase;
      // The first level's operands arrive AL cycles after a cycle with `in_ready`.
      wire second = (AL % 2 == 1) ? !phase : phase;
      wire [6*256-1:0] a = second ? a2 : a1;
      wire [6*256-1:0] b = second ? b2 : b1;
      for (i = 0; i < 6; i = i + 1) begin : g_mul
        logic [255:0] m;
        fp_mul #(.ML(ML), .FP_IMPL(FP_IMPL)) u_mul (
            .clk, .a(a[256*i+:256]), .b(b[256*i+:256]), .y(m)
        );
        assign m1[256*i+:256] = m;
        assign m2[256*i+:256] = m;
      end
    end
  endgenerate

  delay #(.W(TAG_W), .N(LAT)) u_tag (.clk, .d(in_tag), .q(out_tag));

  logic [LAT-1:0] valid;
  always_ff @(posedge clk) valid <= rst_n ? {valid[LAT-2:0], in_valid} : '0;
  assign out_valid = valid[LAT-1];
endmodule

`default_nettype wire
