`default_nettype none

`include "axi_ports.svh"
`include "parameter_check.svh"

// The shell-independent MSM design: one AXI4 slave for data, one AXI-Lite slave for registers, one interrupt.
//
// Two windows on one write channel feed two FIFOs, from which the core consumes pairs; see `hdl/README.md`.
module msm_design #(
    parameter int DATA_W = 512,
    parameter int ADDR_W = 64,
    parameter int ID_W = 6,
    // Bursts that can be queued in each direction.
    parameter int AXI_QUEUE = 32,
    // FIFO depths, in scalars (even) and in points.
    parameter int SC_DEPTH = 1024,
    parameter int PT_DEPTH = 1024,
    // Reset value of the WATCHDOG register, in cycles.
    parameter int WATCHDOG = 1 << 26,
    // Tasks that can be queued, including the running one, and results that can be queued.
    parameter int TASKS = 2,
    parameter int RESULTS = 2,
    parameter int MAX_ELEMENTS = 1 << 26,
    parameter int CLOCK_KHZ = 250_000,
    // 1: the stub core, which computes no MSM and consumes a pair every STUB_N cycles.
    parameter int STUB = 0,
    parameter int STUB_N = 16,
    // The core: bits per window, latencies of a field product and of a field addition, cycles between point additions, additions
    // that can wait for a busy bucket, and the implementation of the field arithmetic.
    parameter int C = 13,
    parameter int ML = 25,
    parameter int AL = 1,
    parameter int II = 1,
    parameter int RETRY = 64,
    parameter int FP_IMPL = msm_pkg::FP_TILED,
    localparam int STRB_W = DATA_W / 8
) (
    input wire clk,
    input wire rst_n,

    `AXI4_WRITE_PORTS(s_axi_, s_axi_, ID_W, ADDR_W, DATA_W)
    `AXI4_READ_PORTS(s_axi_, s_axi_, ID_W, ADDR_W, DATA_W)
    // The write burst queue is nearly full.
    output logic wr_full,

    `AXIL_PORTS(s_axil_, s_axil_)

    // An active-high level.
    output logic irq,
    // A task is queued or runs.
    output logic busy
);
  `PARAMETER_CHECK(msm_design_DATA_W, DATA_W == 512, "msm_design: DATA_W must be 512, since a beat is a point")
  `PARAMETER_CHECK(msm_design_ADDR_W, ADDR_W >= 32 && ADDR_W <= 64, "msm_design: ADDR_W must be 32 to 64")
  `PARAMETER_CHECK(msm_design_ID_W, ID_W >= 1, "msm_design: ID_W must be at least 1")
  `PARAMETER_CHECK(msm_design_AXI_QUEUE, AXI_QUEUE >= 1, "msm_design: AXI_QUEUE must be at least 1")
  `PARAMETER_CHECK(msm_design_SC_DEPTH, SC_DEPTH >= 2 && SC_DEPTH % 2 == 0, "msm_design: SC_DEPTH must be even and at least 2")
  `PARAMETER_CHECK(msm_design_PT_DEPTH, PT_DEPTH >= 1, "msm_design: PT_DEPTH must be at least 1")
  `PARAMETER_CHECK(msm_design_WATCHDOG, WATCHDOG >= 0, "msm_design: WATCHDOG must be at least 0")
  `PARAMETER_CHECK(msm_design_TASKS, TASKS >= 2 && TASKS <= 255, "msm_design: TASKS must be 2 to 255")
  `PARAMETER_CHECK(msm_design_RESULTS, RESULTS >= 2 && RESULTS <= 255, "msm_design: RESULTS must be 2 to 255")
  `PARAMETER_CHECK(msm_design_MAX_ELEMENTS, MAX_ELEMENTS >= 1, "msm_design: MAX_ELEMENTS must be at least 1")
  `PARAMETER_CHECK(msm_design_CLOCK_KHZ, CLOCK_KHZ >= 1, "msm_design: CLOCK_KHZ must be at least 1")
  `PARAMETER_CHECK(msm_design_STUB, STUB >= 0 && STUB <= 1, "msm_design: STUB must be 0 or 1")
  `PARAMETER_CHECK(msm_design_STUB_N, STUB_N >= 1, "msm_design: STUB_N must be at least 1")
  `PARAMETER_CHECK(msm_design_C, C >= 2 && C <= 16, "msm_design: C must be 2 to 16")
  `PARAMETER_CHECK(msm_design_ML, ML >= 1, "msm_design: ML must be at least 1")
  `PARAMETER_CHECK(msm_design_AL, AL >= 1, "msm_design: AL must be at least 1")
  `PARAMETER_CHECK(msm_design_II, II >= 1 && II <= 2, "msm_design: II must be 1 or 2")
  `PARAMETER_CHECK(msm_design_RETRY, RETRY >= 1, "msm_design: RETRY must be at least 1")
  `PARAMETER_CHECK(msm_design_FP_IMPL, FP_IMPL >= 0 && FP_IMPL <= 2, "msm_design: FP_IMPL must be 0, 1 or 2")

  localparam int SW = $clog2(SC_DEPTH + 1);
  localparam int PW = $clog2(PT_DEPTH + 1);
  localparam int SCRATCH_A = $clog2(msm_regs_pkg::SCRATCH_SIZE) - $clog2(STRB_W);

  // A soft reset does not reset the AXI side, so bursts in progress complete normally.
  logic soft_reset, core_rst_n;
  always_ff @(posedge clk) core_rst_n <= rst_n && !soft_reset;

  // ------------------------------------------------------------------------------------------------ AXI4 write
  logic [DATA_W-1:0] data;
  logic scalar_push, scalar_room, point_push, point_room;
  logic scratch_write, scratch_read;
  logic [SCRATCH_A-1:0] scratch_write_addr, scratch_read_addr;
  logic [STRB_W-1:0] scratch_strb;
  logic [DATA_W-1:0] scratch_data;
  logic dropping, err_write_decode, err_read_decode, err_strobe, err_wlast, err_burst, err_watchdog;

  axi_write #(
      .DATA_W(DATA_W),
      .ADDR_W(ADDR_W),
      .ID_W(ID_W),
      .AWQ(AXI_QUEUE)
  ) u_write (
      .clk,
      .rst_n,
      `AXI4_WRITE_CONNECT(s_axi_, s_axi_, s_axi_),
      .wr_full,
      .data,
      .scalar_valid(scalar_push),
      .scalar_ready(scalar_room),
      .point_valid(point_push),
      .point_ready(point_room),
      .scratch_write,
      .scratch_addr(scratch_write_addr),
      .scratch_strb,
      .dropping,
      .err_decode(err_write_decode),
      .err_strobe,
      .err_wlast,
      .err_burst
  );

  // ------------------------------------------------------------------------------------------------ AXI4 read
  logic result_valid;
  logic [767:0] result_data;
  axi_read #(
      .DATA_W(DATA_W),
      .ADDR_W(ADDR_W),
      .ID_W(ID_W),
      .ARQ(AXI_QUEUE)
  ) u_read (
      .clk,
      .rst_n,
      `AXI4_READ_CONNECT(s_axi_, s_axi_, s_axi_),
      .result_data(result_valid ? result_data : 768'd0),
      .scratch_read,
      .scratch_addr(scratch_read_addr),
      .scratch_data,
      .err_decode(err_read_decode)
  );
  scratch_ram #(
      .DATA_W(DATA_W),
      .A(SCRATCH_A)
  ) u_scratch (
      .clk,
      .write(scratch_write),
      .write_addr(scratch_write_addr),
      .write_strb(scratch_strb),
      .write_data(data),
      .read(scratch_read),
      .read_addr(scratch_read_addr),
      .read_data(scratch_data)
  );

  // ------------------------------------------------------------------------------------------------ FIFOs
  logic abort, flush, padding;
  logic [255:0] scalar_data;
  logic [511:0] point_data;
  logic scalar_valid, scalar_ready, scalar_last, point_valid, point_ready;
  logic [SW-1:0] scalars, free_scalars, high_scalars;
  logic [PW-1:0] points, high_points;
  wire scalar_stalled = scalar_push && !scalar_room;
  wire point_stalled = point_push && !point_room;
  wire take = scalar_valid && scalar_ready;

  scalar_fifo #(
      .DATA_W(DATA_W),
      .DEPTH (SC_DEPTH)
  ) u_scalars (
      .clk,
      .rst_n(core_rst_n),
      .flush,
      .s_data(data),
      .s_valid(scalar_push),
      .s_ready(scalar_room),
      .m_data(scalar_data),
      .m_valid(scalar_valid),
      .m_ready(scalar_ready),
      .m_last(scalar_last),
      .abort,
      .padding,
      .level(scalars),
      .free(free_scalars)
  );
  sfifo #(
      .W(DATA_W),
      .D(PT_DEPTH)
  ) u_points (
      .clk,
      .rst_n  (core_rst_n),
      .flush,
      .s_data (data),
      .s_valid(point_push),
      .s_ready(point_room),
      .m_data (point_data),
      .m_valid(point_valid),
      .m_ready(point_ready),
      .level  (points)
  );

  logic [31:0] watchdog_limit;
  watchdog u_watchdog (
      .clk,
      .rst_n(core_rst_n),
      .flush,
      .limit(watchdog_limit),
      .scalar_stalled,
      .scalars_empty(scalars == '0),
      .point_stalled,
      .points_empty(points == '0),
      .dropping,
      .fired(err_watchdog)
  );

  // ------------------------------------------------------------------------------------------------ core
  logic task_push, task_push_montgomery, task_valid, task_montgomery;
  logic [31:0] task_push_count, task_push_label, task_count;
  logic done_valid, done_ready, result_pop;
  logic [767:0] done_data;
  logic [31:0] result_label, left;
  logic hungry, working, reducing;
  logic [$clog2(TASKS+1)-1:0] tasks;
  logic [$clog2(RESULTS+1)-1:0] results;

  task_queue #(
      .TASKS  (TASKS),
      .RESULTS(RESULTS)
  ) u_queue (
      .clk,
      .rst_n(core_rst_n),
      .abort,
      .push(task_push),
      .push_count(task_push_count),
      .push_label(task_push_label),
      .push_montgomery(task_push_montgomery),
      .task_valid,
      .task_count,
      .task_montgomery,
      .done_data,
      .done_valid,
      .done_ready,
      .result_data,
      .result_label,
      .result_valid,
      .result_pop,
      .tasks,
      .results
  );
  assign busy = tasks != '0;

  generate
    if (STUB != 0) begin : g_stub
      msm_core_stub #(
          .STUB_N(STUB_N)
      ) u_core (
          .clk,
          .rst_n(core_rst_n),
          .abort,
          .task_valid,
          .task_count,
          .scalar_data,
          .scalar_valid,
          .scalar_ready,
          .scalar_last,
          .point_data,
          .point_valid,
          .point_ready,
          .result_data(done_data),
          .result_valid(done_valid),
          .result_ready(done_ready),
          .left,
          .hungry,
          .working,
          .reducing
      );
      wire unused = &{1'b0, task_montgomery};
    end else begin : g_real
      msm_core #(
          .C(C),
          .ML(ML),
          .AL(AL),
          .II(II),
          .RETRY(RETRY),
          .FP_IMPL(FP_IMPL)
      ) u_core (
          .clk,
          .rst_n(core_rst_n),
          .abort,
          .task_valid,
          .task_count,
          .task_montgomery,
          .scalar_data,
          .scalar_valid,
          .scalar_ready,
          .scalar_last,
          .point_data,
          .point_valid,
          .point_ready,
          .result_data(done_data),
          .result_valid(done_valid),
          .result_ready(done_ready),
          .left,
          .hungry,
          .working,
          .reducing
      );
    end
  endgenerate

  // ------------------------------------------------------------------------------------------------ registers
  logic [12*64-1:0] counts;
  msm_counters #(
      .SC_DEPTH(SC_DEPTH),
      .PT_DEPTH(PT_DEPTH)
  ) u_counters (
      .clk,
      .rst_n(core_rst_n),
      .scalar_push(scalar_push && scalar_room),
      .point_push(point_push && point_room),
      .padding,
      .take,
      .hungry,
      .working,
      .left,
      .task_end(done_valid && done_ready),
      .abort,
      .scalar_valid,
      .point_valid,
      .scalar_stalled,
      .point_stalled,
      .scalars,
      .points,
      .counts,
      .high_scalars,
      .high_points
  );

  // A write that does not cover all four bytes has no effect.
  logic any_write, read;
  logic [31:0] write_addr, write_mask, write_data, read_addr, read_data;
  wire write = any_write && (&write_mask);
  axil_slave u_axil (
      .clk,
      .rst_n,
      `AXIL_CONNECT(s_axil_, s_axil_, s_axil_),
      .write(any_write),
      .write_addr,
      .write_mask,
      .write_data,
      .read,
      .read_addr,
      .read_data
  );

  msm_regs #(
      .C(C),
      .II(II),
      .STUB(STUB),
      .SC_DEPTH(SC_DEPTH),
      .PT_DEPTH(PT_DEPTH),
      .TASKS(TASKS),
      .RESULTS(RESULTS),
      .CLOCK_KHZ(CLOCK_KHZ),
      .MAX_ELEMENTS(MAX_ELEMENTS),
      .WATCHDOG(WATCHDOG)
  ) u_regs (
      .clk,
      .rst_n(core_rst_n),
      .write,
      .write_addr,
      .write_data,
      .read,
      .read_addr,
      .read_data,
      .irq,
      .task_push,
      .task_count(task_push_count),
      .task_label(task_push_label),
      .task_montgomery(task_push_montgomery),
      .result_pop,
      .abort,
      .flush,
      .soft_reset,
      .watchdog_limit,
      .tasks(32'(tasks)),
      .results(32'(results)),
      .result_valid,
      .result_label,
      .result_data,
      .result_new(done_valid && done_ready),
      .left,
      .reducing,
      .scalars(32'(scalars)),
      .points(32'(points)),
      .free_scalars(32'(free_scalars)),
      .free_points(32'(PT_DEPTH) - 32'(points)),
      .high_scalars(32'(high_scalars)),
      .high_points(32'(high_points)),
      .scalar_stalled,
      .point_stalled,
      .dropping,
      .err_decode(err_write_decode || err_read_decode),
      .err_strobe,
      .err_wlast,
      .err_burst,
      .err_watchdog,
      .counts
  );
endmodule

`default_nettype wire
