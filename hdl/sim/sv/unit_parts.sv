`default_nettype none

// Digit recoders of several widths, and a FIFO whose depth is not a power of two.
module unit_parts (
    input  wire         clk,
    input  wire         rst_n,
    // 15:0 bits, 16 carry; 31:24 data, 32 push, 33 pop, 34 flush
    input  wire  [95:0] in,
    // For C = 3, 8, 13 and 16, every 24 bits: 15:0 bucket, 16 zero, 17 negative, 18 carry. 103:96 data, 104 valid, 105 ready,
    // 108:106 level
    output logic [127:0] out
);
  genvar i;
  generate
    for (i = 0; i < 4; i = i + 1) begin : g_width
      localparam int C = (i == 0) ? 3 : (i == 1) ? 8 : (i == 2) ? 13 : 16;
      logic [C-2:0] bucket;
      logic zero, negative, carry;
      digit_recode #(
          .C(C)
      ) u_digit (
          .bits(in[C-1:0]),
          .carry_in(in[16]),
          .zero,
          .negative,
          .bucket,
          .carry_out(carry)
      );
      assign out[24*i+:24] = {5'd0, carry, negative, zero, 16'(bucket)};
    end
  endgenerate

  logic [2:0] level;
  logic valid, ready;
  logic [7:0] data;
  sfifo #(
      .W(8),
      .D(5)
  ) u_fifo (
      .clk,
      .rst_n,
      .flush(in[34]),
      .s_data(in[31:24]),
      .s_valid(in[32]),
      .s_ready(ready),
      .m_data(data),
      .m_valid(valid),
      .m_ready(in[33]),
      .level
  );
  assign out[127:96] = {19'd0, level, ready, valid, data};
endmodule

`default_nettype wire
