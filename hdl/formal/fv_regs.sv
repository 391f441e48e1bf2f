`default_nettype none

// Proves the register block: errors persist until acknowledged, interrupts follow their enables, HI matches the last read of LO,
// and a task is pushed only if its pair count is legal and the queue has room.
module fv_regs (
    input wire         clk,
    input wire         rst_n,
    input wire         write,
    input wire [ 31:0] write_addr,
    input wire [ 31:0] write_data,
    input wire         read,
    input wire [ 31:0] read_addr,
    input wire [  1:0] level,
    input wire         result_valid,
    input wire         result_new,
    input wire         err_decode,
    input wire         err_strobe,
    input wire         err_wlast,
    input wire         err_burst,
    input wire         err_watchdog,
    input wire [767:0] counts
);
  logic [31:0] read_data, task_count, task_label, watchdog_limit;
  logic irq, task_push, task_montgomery, result_pop, abort, flush, soft_reset;
  msm_regs #(
      .MAX_ELEMENTS(1000)
  ) dut (
      .tasks(32'(level)),
      .results('0),
      .result_label('0),
      .result_data('0),
      .left('0),
      .reducing(1'b0),
      .scalars('0),
      .points('0),
      .free_scalars('0),
      .free_points('0),
      .high_scalars('0),
      .high_points('0),
      .scalar_stalled(1'b0),
      .point_stalled(1'b0),
      .dropping(1'b0),
      .*
  );

  logic past = 1'b0;
  logic [5:0] errors;  // as software should read them
  logic [1:0] enable, status;
  logic acknowledged;
  logic [31:0] high;  // HI of PUSHED_POINTS when its LO was read
  logic [31:0] count, label, refused;
  wire push = write && write_addr == msm_regs_pkg::PUSH_TASK;
  wire pop = write && write_addr == msm_regs_pkg::POP_RESULT;
  wire fits = level < 2'd2 && count != 0 && count <= 1000;
  wire [5:0] raised = {
    pop && !result_valid, push && !fits, err_watchdog, err_wlast, err_strobe, err_decode
  };
  wire [5:0] known = (write && write_addr == msm_regs_pkg::ERRORS) ? errors & ~write_data[5:0] : errors;
  wire [1:0] served =
      (write && write_addr == msm_regs_pkg::IRQ_STATUS) ? status & ~write_data[1:0] : status;

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {errors, enable, status, acknowledged, high, count, label, refused} <= '0;
    end else if (past) begin
      assume (level <= 2'd2);
      errors <= known | raised;
      if (err_burst) refused <= refused + 1'b1;
      acknowledged <= write && write_addr == msm_regs_pkg::IRQ_STATUS;
      status <= served | {|(raised & ~errors), result_new};
      if (write && write_addr == msm_regs_pkg::IRQ_ENABLE) enable <= write_data[1:0];
      if (write && write_addr == msm_regs_pkg::N_ELEMENTS) count <= write_data;
      if (write && write_addr == msm_regs_pkg::LABEL) label <= write_data;
      else if (push && fits) label <= label + 1'b1;
      if (read && read_addr == msm_regs_pkg::PUSHED_POINTS) high <= counts[64*2+32+:32];

      // The interrupt is low for a cycle after each acknowledgement.
      assert (irq == (|(status & enable) && !acknowledged));
      assert (task_push == (push && fits) && result_pop == (pop && result_valid));
      if (task_push) assert (task_count == count && task_label == label);
      case (read_addr)
        msm_regs_pkg::ERRORS: begin assert (read_data == 32'(errors)); end
        msm_regs_pkg::REFUSED_WRITES: begin assert (read_data == refused); end
        msm_regs_pkg::IRQ_STATUS: begin assert (read_data == 32'(status)); end
        msm_regs_pkg::PUSHED_POINTS: begin assert (read_data == counts[64*2+:32]); end
        msm_regs_pkg::PUSHED_POINTS + 32'd4: begin assert (read_data == high); end
        msm_regs_pkg::IMAGE_ID: begin assert (read_data == msm_regs_pkg::IMAGE_ID_VALUE); end
        msm_regs_pkg::RESULT + 32'd96: begin assert (read_data == '0); end
        32'h148: begin assert (read_data == '0); end
        default: ;
      endcase
      cover (irq && errors[4] && label == 32'd2);
    end
  end
endmodule

`default_nettype wire
