`default_nettype none

// The performance monitor of a channel (PG195, "Performance Monitor Control"). It counts clocks and beats of payload. The counters
// have 42 bits and stay at their maximum.
module dma_perf (
    input wire clk,
    input wire rst_n,

    input  wire         write,
    input  wire  [ 2:0] write_data,
    input  wire  [ 7:0] read_offset,
    // Zero unless the offset is one of the monitor's.
    output logic [31:0] read_data,

    // The channel starts, is running, completed a descriptor with Stop, wrote a beat.
    input wire start,
    input wire running,
    input wire finished,
    input wire moved
);
  localparam int AUTO = 0, CLEAR = 1, RUN = 2;

  logic [2:0] control;
  logic counting;
  logic [42:0] cycles, beats;  // the highest bit: at the maximum

  // Auto also clears when Run is set.
  wire arms = write && write_data[RUN] && !control[RUN];
  wire clears = write && (write_data[CLEAR] || (arms && write_data[AUTO]));

  always_ff @(posedge clk) begin
    if (!rst_n) begin
      control  <= '0;
      counting <= 1'b0;
    end else begin
      if (write) control <= {write_data[RUN], 1'b0, write_data[AUTO]};
      if (write) counting <= write_data[RUN] && (counting || running);
      else if (start) counting <= control[RUN];
      else if (finished && control[AUTO]) counting <= 1'b0;
    end
    if (!rst_n || clears) begin
      cycles <= '0;
      beats  <= '0;
    end else if (counting) begin
      if (!cycles[42]) cycles <= (cycles == {1'b0, {42{1'b1}}}) ? {1'b1, {42{1'b1}}} : cycles + 1'b1;
      if (!beats[42] && moved) beats <= (beats == {1'b0, {42{1'b1}}}) ? {1'b1, {42{1'b1}}} : beats + 1'b1;
    end
  end

  always_comb begin
    case (read_offset)
      xdma_regs_pkg::CHANNEL_PERF_CONTROL: read_data = {29'd0, control};
      xdma_regs_pkg::CHANNEL_PERF_CYCLES_LO: read_data = cycles[31:0];
      xdma_regs_pkg::CHANNEL_PERF_CYCLES_HI: read_data = {15'd0, cycles[42], 6'd0, cycles[41:32]};
      xdma_regs_pkg::CHANNEL_PERF_DATA_LO: read_data = beats[31:0];
      xdma_regs_pkg::CHANNEL_PERF_DATA_HI: read_data = {15'd0, beats[42], 6'd0, beats[41:32]};
      default: read_data = '0;
    endcase
  end
endmodule

`default_nettype wire
