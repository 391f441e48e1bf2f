`default_nettype none

`include "parameter_check.svh"

// The task queue, with the running task at its head, and the result queue, in the same order. A result has the label of its task.
module task_queue #(
    parameter  int TASKS = 2,
    parameter  int RESULTS = 2,
    localparam int TW = $clog2(TASKS + 1),
    localparam int RW = $clog2(RESULTS + 1)
) (
    input  wire           clk,
    input  wire           rst_n,
    input  wire           abort,
    input  wire           push,
    input  wire  [  31:0] push_count,
    input  wire  [  31:0] push_label,
    input  wire           push_montgomery,
    output logic          task_valid,
    output logic [  31:0] task_count,
    output logic          task_montgomery,
    input  wire  [ 767:0] done_data,
    input  wire           done_valid,
    output logic          done_ready,
    output logic [ 767:0] result_data,
    output logic [  31:0] result_label,
    output logic          result_valid,
    input  wire           result_pop,
    output logic [TW-1:0] tasks,
    output logic [RW-1:0] results
);
  `PARAMETER_CHECK(task_queue_TASKS, TASKS >= 2, "task_queue: TASKS must be at least 2")
  `PARAMETER_CHECK(task_queue_RESULTS, RESULTS >= 2, "task_queue: RESULTS must be at least 2")

  logic push_ready;
  logic [31:0] label;

  sfifo #(
      .W(65),
      .D(TASKS)
  ) u_tasks (
      .clk,
      .rst_n,
      .flush(abort),
      .s_data({push_montgomery, push_label, push_count}),
      .s_valid(push),
      .s_ready(push_ready),
      .m_data({task_montgomery, label, task_count}),
      .m_valid(task_valid),
      .m_ready(done_valid && done_ready),
      .level(tasks)
  );

  sfifo #(
      .W(800),
      .D(RESULTS)
  ) u_results (
      .clk,
      .rst_n,
      .flush(1'b0),
      .s_data({label, done_data}),
      .s_valid(done_valid),
      .s_ready(done_ready),
      .m_data({result_label, result_data}),
      .m_valid(result_valid),
      .m_ready(result_pop),
      .level(results)
  );

  wire unused = &{1'b0, push_ready};
endmodule

`default_nettype wire
