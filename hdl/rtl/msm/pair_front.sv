`default_nettype none

// Consumes a task's pairs from the FIFOs, each scalar together with its point, and reduces coordinates modulo P and scalars
// modulo R. Pairs that contribute nothing are dropped: those with the point at infinity (0, 0) or with the scalar 0.
//
// 2^256 is less than 6 P and 6 R, so subtracting 4, 2 and 1 times the modulus, each where possible, reduces completely.
module pair_front (
    input  wire          clk,
    input  wire          rst_n,
    // `start` begins a task of `count` pairs, `abort` ends it.
    input  wire          start,
    input  wire  [ 31:0] count,
    input  wire          abort,
    input  wire  [255:0] scalar_data,
    input  wire          scalar_valid,
    output logic         scalar_ready,
    // The scalar at the input is the last of its task.
    output logic         scalar_last,
    input  wire  [511:0] point_data,
    input  wire          point_valid,
    output logic         point_ready,
    output logic [255:0] scalar,
    output logic [255:0] x,
    output logic [255:0] y,
    output logic         valid,
    input  wire          ready,
    // Pairs not consumed yet.
    output logic [ 31:0] left,
    // A pair can be accepted.
    output logic         hungry,
    // Pairs are in the pipeline.
    output logic         busy
);
  localparam int STEPS = 3;

  // Stage i is the output of step i - 1.
  logic [255:0] s[0:STEPS], sx[0:STEPS], sy[0:STEPS];
  logic [STEPS-1:0] some_s, some_x, some_y;
  logic [STEPS:1] full;

  wire move = !valid || ready;
  wire take = hungry && scalar_valid && point_valid;

  assign hungry = left != '0 && move && !abort;
  assign scalar_ready = hungry && point_valid;
  assign point_ready = hungry && scalar_valid;
  assign scalar_last = left == 32'd1;

  assign s[0] = scalar_data;
  assign sx[0] = point_data[255:0];
  assign sy[0] = point_data[511:256];

  genvar i;
  generate
    for (i = 0; i < STEPS; i = i + 1) begin : g_step
      mod_step #(.M(bn254_pkg::R << (STEPS - 1 - i))) u_s (
          .clk, .enable(move), .a(s[i]), .y(s[i+1]), .some(some_s[i])
      );
      mod_step #(.M(bn254_pkg::P << (STEPS - 1 - i))) u_x (
          .clk, .enable(move), .a(sx[i]), .y(sx[i+1]), .some(some_x[i])
      );
      mod_step #(.M(bn254_pkg::P << (STEPS - 1 - i))) u_y (
          .clk, .enable(move), .a(sy[i]), .y(sy[i+1]), .some(some_y[i])
      );
    end
  endgenerate

  wire adds = some_s[STEPS-1] && (some_x[STEPS-1] || some_y[STEPS-1]);
  wire unused = &{1'b0, some_s[STEPS-2:0], some_x[STEPS-2:0], some_y[STEPS-2:0]};
  assign scalar = s[STEPS];
  assign x = sx[STEPS];
  assign y = sy[STEPS];
  assign valid = full[STEPS] && adds;
  assign busy = full != '0;

  always_ff @(posedge clk) begin
    if (!rst_n || abort) begin
      full <= '0;
      left <= '0;
    end else begin
      if (move) full <= {full[STEPS-1:1], take};
      if (start) left <= count;
      else if (take) left <= left - 1'b1;
    end
  end
endmodule

`default_nettype wire
