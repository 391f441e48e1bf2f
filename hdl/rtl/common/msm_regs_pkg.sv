`default_nettype none
// The register map of `crates/regs/src/msm.rs`, which says more.
// Made by `cargo xtask registers`; do not edit.
package msm_regs_pkg;
  localparam logic [63:0] SCALAR_WINDOW = 64'h10000000;
  localparam logic [63:0] POINT_WINDOW = 64'h20000000;
  localparam logic [63:0] RESULT_WINDOW = 64'h40000000;
  localparam logic [63:0] SCRATCH_WINDOW = 64'h50000000;
  localparam logic [63:0] SCRATCH_SIZE = 64'h100000;
  localparam logic [63:0] WINDOW_SIZE = 64'h10000000;
  localparam int BEAT = 64;
  localparam int SCALAR_BYTES = 32;
  localparam int POINT_BYTES = 64;
  localparam int RESULT_BYTES = 96;
  localparam logic [31:0] IMAGE_ID = 32'h0;
  localparam logic [31:0] IMAGE_ID_VALUE = 32'h4d534d01;
  localparam logic [31:0] IMAGE_PARAMETERS = 32'h4;
  localparam logic [31:0] ENGINE_READY = 32'h8;
  localparam logic [31:0] TASK_LABEL = 32'hc;
  localparam logic [31:0] N_ELEMENTS = 32'h28;
  localparam logic [31:0] PUSH_TASK = 32'h2c;
  localparam logic [31:0] RESULT_VALID = 32'h30;
  localparam logic [31:0] RESULT_LABEL = 32'h34;
  localparam logic [31:0] RESULT = 32'h38;
  localparam logic [31:0] POP_RESULT = 32'hc8;
  localparam logic [31:0] PENDING_TASKS = 32'hcc;
  localparam logic [31:0] PENDING_RESULTS = 32'hd0;
  localparam logic [31:0] FINAL_ACCUMULATION = 32'hd8;
  localparam logic [31:0] ELEMENTS_LEFT = 32'hdc;
  localparam logic [31:0] SCALARS_IN_FIFO = 32'he0;
  localparam logic [31:0] POINTS_IN_FIFO = 32'he4;
  localparam logic [31:0] PHASE1_CLOCKS = 32'hf8;
  localparam logic [31:0] EXTENSION_ID = 32'h200;
  localparam logic [31:0] EXTENSION_ID_VALUE = 32'h584d534d;
  localparam logic [31:0] EXTENSION_VERSION = 32'h204;
  localparam logic [31:0] BUILD = 32'h208;
  localparam logic [31:0] SCALAR_DEPTH = 32'h20c;
  localparam logic [31:0] POINT_DEPTH = 32'h210;
  localparam logic [31:0] CLOCK_KHZ = 32'h214;
  localparam logic [31:0] QUEUE_DEPTH = 32'h218;
  localparam logic [31:0] MAX_ELEMENTS = 32'h21c;
  localparam logic [31:0] CTRL = 32'h220;
  localparam logic [31:0] STATUS = 32'h224;
  localparam logic [31:0] ERRORS = 32'h228;
  localparam logic [31:0] MODE = 32'h22c;
  localparam logic [31:0] LABEL = 32'h230;
  localparam logic [31:0] IRQ_ENABLE = 32'h234;
  localparam logic [31:0] IRQ_STATUS = 32'h238;
  localparam logic [31:0] WATCHDOG = 32'h23c;
  localparam logic [31:0] FREE_SCALARS = 32'h240;
  localparam logic [31:0] FREE_POINTS = 32'h244;
  localparam logic [31:0] PUSHED_SCALARS = 32'h248;
  localparam logic [31:0] PUSHED_POINTS = 32'h250;
  localparam logic [31:0] CONSUMED_SCALARS = 32'h258;
  localparam logic [31:0] CONSUMED_POINTS = 32'h260;
  localparam logic [31:0] CYCLES = 32'h268;
  localparam logic [31:0] CORE_BUSY = 32'h270;
  localparam logic [31:0] STARVE_SCALAR = 32'h278;
  localparam logic [31:0] STARVE_POINT = 32'h280;
  localparam logic [31:0] STARVE_BOTH = 32'h288;
  localparam logic [31:0] STALL_SCALAR = 32'h290;
  localparam logic [31:0] STALL_POINT = 32'h298;
  localparam logic [31:0] REFUSED_WRITES = 32'h2a0;
  localparam logic [31:0] HIGH_WATER_SCALARS = 32'h2d8;
  localparam logic [31:0] HIGH_WATER_POINTS = 32'h2dc;

  // Bits of Ctrl.
  localparam int CTRL_ABORT = 0;
  localparam int CTRL_FLUSH = 1;
  localparam int CTRL_SOFT_RESET = 2;

  // Bits of Status.
  localparam int STATUS_BUSY = 0;
  localparam int STATUS_TASKS_FULL = 1;
  localparam int STATUS_SCALAR_STALLED = 2;
  localparam int STATUS_POINT_STALLED = 3;
  localparam int STATUS_DROPPING = 4;

  // Bits of Errors.
  localparam int ERRORS_DECODE = 0;
  localparam int ERRORS_STROBE = 1;
  localparam int ERRORS_WLAST = 2;
  localparam int ERRORS_WATCHDOG = 3;
  localparam int ERRORS_OVERRUN = 4;
  localparam int ERRORS_UNDERRUN = 5;

  // Bits of Mode.
  localparam int MODE_MONTGOMERY = 0;

  // Bits of Irq.
  localparam int IRQ_RESULT = 0;
  localparam int IRQ_ERROR = 1;
endpackage
`default_nettype wire
