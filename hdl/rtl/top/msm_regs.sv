`default_nettype none

`include "parameter_check.svh"

// The registers of `crates/regs/src/msm.rs`: settings, status and counters, and the commands triggered by register writes.
//
// A 64-bit register is a LO and HI pair; reading LO latches HI. Registers not named there read as zero and ignore writes.
module msm_regs #(
    parameter int C = 13,
    parameter int II = 1,
    parameter int STUB = 0,
    parameter int SC_DEPTH = 1024,
    parameter int PT_DEPTH = 1024,
    parameter int TASKS = 2,
    parameter int RESULTS = 2,
    parameter int CLOCK_KHZ = 250_000,
    parameter int MAX_ELEMENTS = 1 << 26,
    parameter int WATCHDOG = 1 << 26
) (
    input  wire         clk,
    // Also asserted by a soft reset.
    input  wire         rst_n,
    input  wire         write,
    input  wire  [31:0] write_addr,
    input  wire  [31:0] write_data,
    input  wire         read,
    input  wire  [31:0] read_addr,
    output logic [31:0] read_data,
    output logic        irq,

    output logic        task_push,
    output logic [31:0] task_count,
    output logic [31:0] task_label,
    output logic        task_montgomery,
    output logic        result_pop,
    output logic        abort,
    output logic        flush,
    output logic        soft_reset,
    output logic [31:0] watchdog_limit,

    input wire [     31:0] tasks,
    input wire [     31:0] results,
    input wire             result_valid,
    input wire [     31:0] result_label,
    input wire [    767:0] result_data,
    input wire             result_new,
    input wire [     31:0] left,
    input wire             reducing,
    input wire [     31:0] scalars,
    input wire [     31:0] points,
    input wire [     31:0] free_scalars,
    input wire [     31:0] free_points,
    input wire [     31:0] high_scalars,
    input wire [     31:0] high_points,
    input wire             scalar_stalled,
    input wire             point_stalled,
    input wire             dropping,
    input wire             err_decode,
    input wire             err_strobe,
    input wire             err_wlast,
    input wire             err_burst,
    input wire             err_watchdog,
    input wire [12*64-1:0] counts
);
  `PARAMETER_CHECK(msm_regs_C, C >= 2 && C <= 16, "msm_regs: C must be 2 to 16")
  `PARAMETER_CHECK(msm_regs_II, II >= 1 && II <= 2, "msm_regs: II must be 1 or 2")
  `PARAMETER_CHECK(msm_regs_STUB, STUB >= 0 && STUB <= 1, "msm_regs: STUB must be 0 or 1")
  `PARAMETER_CHECK(msm_regs_SC_DEPTH, SC_DEPTH >= 1, "msm_regs: SC_DEPTH must be at least 1")
  `PARAMETER_CHECK(msm_regs_PT_DEPTH, PT_DEPTH >= 1, "msm_regs: PT_DEPTH must be at least 1")
  `PARAMETER_CHECK(msm_regs_TASKS, TASKS >= 1 && TASKS <= 255, "msm_regs: TASKS must be 1 to 255")
  `PARAMETER_CHECK(msm_regs_RESULTS, RESULTS >= 1 && RESULTS <= 255, "msm_regs: RESULTS must be 1 to 255")
  `PARAMETER_CHECK(msm_regs_CLOCK_KHZ, CLOCK_KHZ >= 1, "msm_regs: CLOCK_KHZ must be at least 1")
  `PARAMETER_CHECK(msm_regs_MAX_ELEMENTS, MAX_ELEMENTS >= 1, "msm_regs: MAX_ELEMENTS must be at least 1")
  `PARAMETER_CHECK(msm_regs_WATCHDOG, WATCHDOG >= 0, "msm_regs: WATCHDOG must be at least 0")

  localparam int PAIRS = 12;
  localparam int W = bn254_pkg::SCALAR_BITS / C + 1;
  localparam logic [31:0] PARAMETERS =
      (32'(STUB) << 28) | (32'd1 << 20) | (32'd1 << 16) | (32'(C - 1) << 8) | (32'd1 << 4);
  localparam logic [31:0] BUILD = 32'(C) | (32'(W) << 8) | (32'(II) << 16);
  localparam int ERRS = msm_regs_pkg::ERRORS_UNDERRUN + 1;

  // State visible to software.
  logic [31:0] count, label, limit;
  logic [31:0] refused;
  logic montgomery;
  logic [ERRS-1:0] errors;
  logic [1:0] irq_enable, irq_status;
  logic acknowledged;
  logic [31:0] latched[0:PAIRS-1];

  function automatic [31:0] pair_addr(input integer index);
    case (index)
      0: pair_addr = msm_regs_pkg::PHASE1_CLOCKS;
      1: pair_addr = msm_regs_pkg::PUSHED_SCALARS;
      2: pair_addr = msm_regs_pkg::PUSHED_POINTS;
      3: pair_addr = msm_regs_pkg::CONSUMED_SCALARS;
      4: pair_addr = msm_regs_pkg::CONSUMED_POINTS;
      5: pair_addr = msm_regs_pkg::CYCLES;
      6: pair_addr = msm_regs_pkg::CORE_BUSY;
      7: pair_addr = msm_regs_pkg::STARVE_SCALAR;
      8: pair_addr = msm_regs_pkg::STARVE_POINT;
      9: pair_addr = msm_regs_pkg::STARVE_BOTH;
      10: pair_addr = msm_regs_pkg::STALL_SCALAR;
      default: pair_addr = msm_regs_pkg::STALL_POINT;
    endcase
  endfunction

  wire push = write && write_addr == msm_regs_pkg::PUSH_TASK;
  wire pop = write && write_addr == msm_regs_pkg::POP_RESULT;
  wire full = tasks == 32'(TASKS);
  wire push_ok = !full && count != '0 && count <= 32'(MAX_ELEMENTS);
  wire control = write && write_addr == msm_regs_pkg::CTRL;

  assign task_push = push && push_ok;
  assign task_count = count;
  assign task_label = label;
  assign task_montgomery = montgomery;
  assign result_pop = pop && result_valid;
  assign abort = control && write_data[msm_regs_pkg::CTRL_ABORT];
  assign flush = control && write_data[msm_regs_pkg::CTRL_FLUSH];
  assign soft_reset = control && write_data[msm_regs_pkg::CTRL_SOFT_RESET];
  assign watchdog_limit = limit;
  // Low for a cycle after each acknowledgement, so that an event raised in the meantime produces another edge.
  assign irq = |(irq_status & irq_enable) && !acknowledged;

  logic [ERRS-1:0] raised;
  always_comb begin
    raised = '0;
    raised[msm_regs_pkg::ERRORS_DECODE] = err_decode;
    raised[msm_regs_pkg::ERRORS_STROBE] = err_strobe;
    raised[msm_regs_pkg::ERRORS_WLAST] = err_wlast;
    raised[msm_regs_pkg::ERRORS_WATCHDOG] = err_watchdog;
    raised[msm_regs_pkg::ERRORS_OVERRUN] = push && !push_ok;
    raised[msm_regs_pkg::ERRORS_UNDERRUN] = pop && !result_valid;
  end
  logic [1:0] irq_raised;
  always_comb begin
    irq_raised = '0;
    irq_raised[msm_regs_pkg::IRQ_RESULT] = result_new;
    // Only for an error bit that is not already set.
    irq_raised[msm_regs_pkg::IRQ_ERROR] = |(raised & ~errors);
  end

  wire [ERRS-1:0] errors_seen =
      (write && write_addr == msm_regs_pkg::ERRORS) ? write_data[ERRS-1:0] : '0;
  wire acknowledge = write && write_addr == msm_regs_pkg::IRQ_STATUS;
  wire [1:0] irq_seen = acknowledge ? write_data[1:0] : '0;

  integer i;
  always_ff @(posedge clk) begin
    if (!rst_n) begin
      count <= '0;
      label <= '0;
      limit <= 32'(WATCHDOG);
      refused <= '0;
      montgomery <= 1'b0;
      errors <= '0;
      irq_enable <= '0;
      irq_status <= '0;
      acknowledged <= 1'b0;
      for (i = 0; i < PAIRS; i = i + 1) latched[i] <= '0;
    end else begin
      // An event in the same cycle as its acknowledgement is not lost.
      errors <= (errors & ~errors_seen) | raised;
      irq_status <= (irq_status & ~irq_seen) | irq_raised;
      acknowledged <= acknowledge;
      if (err_burst) refused <= refused + 1'b1;
      if (task_push) label <= label + 1'b1;
      if (write)
        case (write_addr)
          msm_regs_pkg::N_ELEMENTS: count <= write_data;
          msm_regs_pkg::LABEL: label <= write_data;
          msm_regs_pkg::WATCHDOG: limit <= write_data;
          msm_regs_pkg::MODE: montgomery <= write_data[msm_regs_pkg::MODE_MONTGOMERY];
          msm_regs_pkg::IRQ_ENABLE: irq_enable <= write_data[1:0];
          default: ;
        endcase
      for (i = 0; i < PAIRS; i = i + 1)
        if (read && read_addr == pair_addr(i)) latched[i] <= counts[64*i+32+:32];
    end
  end

  logic [31:0] status;
  always_comb begin
    status = '0;
    status[msm_regs_pkg::STATUS_BUSY] = tasks != '0;
    status[msm_regs_pkg::STATUS_TASKS_FULL] = full;
    status[msm_regs_pkg::STATUS_SCALAR_STALLED] = scalar_stalled;
    status[msm_regs_pkg::STATUS_POINT_STALLED] = point_stalled;
    status[msm_regs_pkg::STATUS_DROPPING] = dropping;
  end

  localparam logic [31:0] RESULT_END = msm_regs_pkg::RESULT + 32'(msm_regs_pkg::RESULT_BYTES);
  wire in_result = read_addr >= msm_regs_pkg::RESULT && read_addr < RESULT_END &&
      read_addr[1:0] == 2'd0;
  wire [31:0] in_bytes = read_addr - msm_regs_pkg::RESULT;

  integer k;
  always_comb begin
    read_data = (in_result && result_valid) ? result_data[32*in_bytes[6:2]+:32] : '0;
    for (k = 0; k < PAIRS; k = k + 1) begin
      if (read_addr == pair_addr(k)) read_data = counts[64*k+:32];
      if (read_addr == pair_addr(k) + 32'd4) read_data = latched[k];
    end
    case (read_addr)
      msm_regs_pkg::IMAGE_ID: read_data = msm_regs_pkg::IMAGE_ID_VALUE;
      msm_regs_pkg::IMAGE_PARAMETERS: read_data = PARAMETERS;
      msm_regs_pkg::ENGINE_READY: read_data = {31'd0, !full};
      msm_regs_pkg::TASK_LABEL: read_data = label;
      msm_regs_pkg::N_ELEMENTS: read_data = count;
      msm_regs_pkg::RESULT_VALID: read_data = {31'd0, result_valid};
      msm_regs_pkg::RESULT_LABEL: read_data = result_valid ? result_label : '0;
      msm_regs_pkg::PENDING_TASKS: read_data = tasks;
      msm_regs_pkg::PENDING_RESULTS: read_data = results;
      msm_regs_pkg::FINAL_ACCUMULATION: read_data = {31'd0, reducing};
      msm_regs_pkg::ELEMENTS_LEFT: read_data = left;
      msm_regs_pkg::SCALARS_IN_FIFO: read_data = scalars;
      msm_regs_pkg::POINTS_IN_FIFO: read_data = points;
      msm_regs_pkg::EXTENSION_ID: read_data = msm_regs_pkg::EXTENSION_ID_VALUE;
      msm_regs_pkg::EXTENSION_VERSION: read_data = 32'h0001_0000;
      msm_regs_pkg::BUILD: read_data = BUILD;
      msm_regs_pkg::SCALAR_DEPTH: read_data = 32'(SC_DEPTH);
      msm_regs_pkg::POINT_DEPTH: read_data = 32'(PT_DEPTH);
      msm_regs_pkg::CLOCK_KHZ: read_data = 32'(CLOCK_KHZ);
      msm_regs_pkg::QUEUE_DEPTH: read_data = 32'(TASKS) | (32'(RESULTS) << 8);
      msm_regs_pkg::MAX_ELEMENTS: read_data = 32'(MAX_ELEMENTS);
      msm_regs_pkg::STATUS: read_data = status;
      msm_regs_pkg::ERRORS: read_data = 32'(errors);
      msm_regs_pkg::MODE: read_data = 32'(montgomery) << msm_regs_pkg::MODE_MONTGOMERY;
      msm_regs_pkg::LABEL: read_data = label;
      msm_regs_pkg::IRQ_ENABLE: read_data = 32'(irq_enable);
      msm_regs_pkg::IRQ_STATUS: read_data = 32'(irq_status);
      msm_regs_pkg::WATCHDOG: read_data = limit;
      msm_regs_pkg::FREE_SCALARS: read_data = free_scalars;
      msm_regs_pkg::FREE_POINTS: read_data = free_points;
      msm_regs_pkg::REFUSED_WRITES: read_data = refused;
      msm_regs_pkg::HIGH_WATER_SCALARS: read_data = high_scalars;
      msm_regs_pkg::HIGH_WATER_POINTS: read_data = high_points;
      default: ;
    endcase
  end

  wire unused = &{1'b0, in_bytes[31:7], in_bytes[1:0]};
endmodule

`default_nettype wire
