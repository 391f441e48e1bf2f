`default_nettype none

`include "axi_ports.svh"

// Synthesis top for a size estimate of the feed, the logic between the AXI port and the core: the write half of the slave, both
// FIFOs and the watchdog.
module feed (
    input  wire          clk,
    input  wire          rst_n,
    input  wire          flush,
    input  wire  [ 31:0] watchdog_limit,
    `AXI4_WRITE_PORTS(s_axi_, s_axi_, 6, 64, 512)
    output logic         wr_full,
    output logic         dropping,
    output logic [  4:0] errors,
    output logic [255:0] scalar_data,
    output logic         scalar_valid,
    input  wire          scalar_ready,
    input  wire          scalar_last,
    input  wire          abort,
    output logic [511:0] point_data,
    output logic         point_valid,
    input  wire          point_ready
);
  logic [511:0] data;
  logic scalar_push, scalar_room, point_push, point_room, scratch_write, padding;
  logic [13:0] scratch_addr;
  logic [63:0] scratch_strb;
  logic [10:0] scalars, free, points;

  axi_write u_write (
      .scalar_valid(scalar_push),
      .scalar_ready(scalar_room),
      .point_valid(point_push),
      .point_ready(point_room),
      .err_decode(errors[0]),
      .err_strobe(errors[1]),
      .err_wlast(errors[2]),
      .err_burst(errors[4]),
      .*
  );
  scalar_fifo u_scalars (
      .s_data (data),
      .s_valid(scalar_push),
      .s_ready(scalar_room),
      .m_data (scalar_data),
      .m_valid(scalar_valid),
      .m_ready(scalar_ready),
      .m_last (scalar_last),
      .level  (scalars),
      .*
  );
  sfifo #(
      .W(512),
      .D(1024)
  ) u_points (
      .s_data (data),
      .s_valid(point_push),
      .s_ready(point_room),
      .m_data (point_data),
      .m_valid(point_valid),
      .m_ready(point_ready),
      .level  (points),
      .*
  );
  watchdog u_watchdog (
      .limit(watchdog_limit),
      .scalar_stalled(scalar_push && !scalar_room),
      .scalars_empty(scalars == '0),
      .point_stalled(point_push && !point_room),
      .points_empty(points == '0),
      .fired(errors[3]),
      .*
  );
endmodule

`default_nettype wire
