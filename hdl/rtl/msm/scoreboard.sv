`default_nettype none

`include "parameter_check.svh"

// Tracks the buckets that have an addition in flight. A bucket is busy while its number of issues and its number of write-backs
// differ. At most one addition per bucket is in flight, so one bit of each number is enough: two memories with one writer each.
module scoreboard #(
    parameter  int DEPTH = 16,
    localparam int A = $clog2(DEPTH)
) (
    input  wire          clk,
    // Asserted after power-up for every address in turn, while nothing is issued.
    input  wire          clear,
    input  wire  [A-1:0] clear_addr,
    input  wire  [A-1:0] first_addr,
    output logic         first_busy,
    input  wire  [A-1:0] second_addr,
    output logic         second_busy,
    input  wire          issue,
    input  wire  [A-1:0] issue_addr,
    input  wire          written,
    input  wire  [A-1:0] written_addr
);
  `PARAMETER_CHECK(scoreboard_DEPTH, DEPTH >= 2, "scoreboard: DEPTH must be at least 2")

  (* ram_style = "distributed" *)
  logic issues[0:DEPTH-1];
  (* ram_style = "distributed" *)
  logic writes[0:DEPTH-1];

  assign first_busy = issues[first_addr] ^ writes[first_addr];
  assign second_busy = issues[second_addr] ^ writes[second_addr];

  wire [A-1:0] at_issue = clear ? clear_addr : issue_addr;
  wire [A-1:0] at_write = clear ? clear_addr : written_addr;
  wire issue_bit = !clear && !issues[issue_addr];
  wire write_bit = !clear && !writes[written_addr];

  always_ff @(posedge clk) begin
    if (clear || issue) issues[at_issue] <= issue_bit;
    if (clear || written) writes[at_write] <= write_bit;
  end

`ifdef FORMAL_CLEARED
  integer k;
  initial for (k = 0; k < DEPTH; k = k + 1) {issues[k], writes[k]} = 2'b00;
`endif
endmodule

`default_nettype wire
