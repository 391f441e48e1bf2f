`default_nettype none

// Proves the order of a whole H2C channel, with beats of 64 bits and descriptors of one burst: payload, count, write-back, status and
// with it the interrupt, each after the response to the one before. Payload arrives unchanged, and the channel ends only when all
// its requests were answered. Memories answer after any time.
//
// EAGER: only responses to writes take time, and a list has one or two descriptors, so that the proof reaches its end.
module fv_dma_channel #(
    parameter bit EAGER = 1'b0
) (
    input wire       clk,
    input wire       rst_n,
    input wire       run,
    input wire       f_arready,
    input wire       f_rvalid,
    input wire       d_arready,
    input wire       d_rvalid,
    input wire       d_awready,
    input wire       d_wready,
    input wire [1:0] d_bresp,
    input wire       d_bvalid,
    input wire       b_awready,
    input wire       b_wready,
    input wire       b_bvalid
);
  // The descriptor with Stop, and those with Completed and with two beats.
  (* anyconst *)
  logic [1:0] last;
  (* anyconst *)
  logic [3:0] marked, long;
  (* anyconst *)
  logic write_back_on;
  logic start;
  logic [6:0] requested;
  logic [31:0] count;
  logic [23:0] raised;
  logic running, busy, finished, moved;
  logic [31:0] f_araddr, d_araddr, d_awaddr, b_awaddr;
  logic [7:0] f_arlen, d_arlen, d_awlen, d_wstrb, b_wstrb;
  logic f_arvalid, d_arfixed, d_arvalid, d_rready, d_awfixed, d_awvalid, d_wvalid, b_awvalid, b_wvalid;
  logic [63:0] d_wdata, b_wdata;

  // Descriptor N is at address 32 N. It moves bytes from 256 + 16 N to 512 + 16 N. A beat of the source has its address as data.
  function automatic logic [255:0] descriptor(input logic [1:0] number);
    descriptor = '0;
    descriptor[223:192] = {25'd0, number + 2'd1, 5'd0};
    descriptor[159:128] = {22'd0, 2'd2, 2'd0, number, 4'd0};
    descriptor[95:64] = {22'd0, 2'd1, 2'd0, number, 4'd0};
    descriptor[36:32] = long[number] ? 5'd16 : 5'd8;
    descriptor[31:16] = xdma_regs_pkg::DESCRIPTOR_MAGIC;
    descriptor[1:0] = {marked[number], number == last};
  endfunction

  logic fetching;
  logic [1:0] at;
  // Reads under way, at most two.
  logic [9:0] addr[0:1];
  logic [7:0] len[0:1];
  logic [1:0] reads;
  logic [7:0] beat;
  // Bursts: addresses, complete data, responses, and those of them that succeeded before one failed.
  logic [3:0] addressed, written, answered, good;
  logic second, bad;
  // The write-back.
  logic b_aw, b_w;
  logic [23:0] word;
  wire [9:0] place = {addr[0][9:3] + beat[6:0], 3'd0};

  dma_channel #(
      .TO_CARD(1'b1),
      .ADDR_W(32),
      .DATA_W(64),
      .READS(2),
      .WRITES(2),
      .BURST(2),
      .BUFFER(9),
      .FETCH(2),
      .FETCH_BEATS(2)
  ) dut (
      .first(32'd0),
      .first_adjacent(6'd1),
      .logged(24'hffffff),
      .fixed(1'b0),
      .write_back(32'h400),
      .errors(1'b0),
      .permitted(running),
      .allowance(10'h3ff),
      .size(2'd0),
      .cancel(1'b0),
      .read_dead(1'b0),
      .write_dead(1'b0),
      .f_rdata({descriptor(at | 2'd1), descriptor(at)}),
      .f_rresp(2'b00),
      .f_rlast(1'b1),
      .d_rdata({54'd0, place}),
      .d_rresp(2'b00),
      .d_rlast(beat == len[0]),
      .*
  );

  logic past = 1'b0, started;
  wire asked = d_arvalid && d_arready;
  wire arrived = d_rvalid && d_rready;
  wire read_ends = arrived && beat == len[0];
  wire w = d_wvalid && d_wready;
  wire w_last = second || !long[written[1:0]];
  assign start = !started;

  always_ff @(posedge clk) begin
    past <= 1'b1;
    if (!past) assume (!rst_n);
    if (!rst_n) begin
      {started, fetching, reads, beat, addressed, written, answered, good, second, bad, b_aw, b_w} <= '0;
    end else if (past) begin
      started <= 1'b1;
      if (start) assume (run);
      if (!start && $past(rst_n) && !$past(run)) assume (!run);
      if (EAGER) begin
        assume (f_arready && d_arready && d_awready && d_wready && b_awready && b_wready);
        assume (f_rvalid == fetching && d_rvalid == (reads != '0) && last < 2'd2);
      end

      // Descriptors.
      assume (!f_rvalid || fetching);
      if (f_arvalid && f_arready) {fetching, at} <= {1'b1, f_araddr[6:5]};
      else if (f_rvalid) fetching <= 1'b0;
      if (f_arvalid) assert (!fetching && f_araddr[4:0] == '0 && f_arlen == '0);

      // Payload is read.
      assume (!d_rvalid || reads != '0);
      if ($past(rst_n && d_rvalid && !d_rready)) assume (d_rvalid);
      if (arrived) beat <= read_ends ? '0 : beat + 1'b1;
      reads <= reads + 2'(asked) - 2'(read_ends);
      if (asked && (reads == '0 || (reads == 2'd1 && read_ends))) {addr[0], len[0]} <= {d_araddr[9:0], d_arlen};
      else if (read_ends) {addr[0], len[0]} <= {addr[1], len[1]};
      if (asked) {addr[1], len[1]} <= {d_araddr[9:0], d_arlen};

      // It is written: burst N belongs to descriptor N.
      assume (!d_bvalid || (answered != written && answered != addressed));
      if (d_awvalid) assert (addressed <= {2'd0, last} && d_awaddr == {22'd0, 2'd2, 2'd0, addressed[1:0], 4'd0});
      if (d_awvalid) assert (d_awlen == {7'd0, long[addressed[1:0]]});
      if (d_wvalid) assert (d_wstrb == '1 && d_wdata == {54'd0, 2'd1, 2'd0, written[1:0], second, 3'd0});
      if (d_awvalid && d_awready) addressed <= addressed + 1'b1;
      if (w) second <= !w_last;
      if (w && w_last) written <= written + 1'b1;
      if (d_bvalid) begin
        answered <= answered + 1'b1;
        if (d_bresp[1]) bad <= 1'b1;
        else if (!bad) good <= good + 1'b1;
      end

      // Count.
      assert (count <= {28'd0, good});
      // Write-back, after the count.
      assume (!b_bvalid || (b_aw && b_w));
      if (b_wvalid) assert (write_back_on && b_wdata[23:0] <= count[23:0] && b_wdata[23:0] != '0);
      if (b_wvalid && b_wready) word <= b_wdata[23:0];
      if (b_bvalid) {b_aw, b_w} <= '0;
      else {b_aw, b_w} <= {b_aw || (b_awvalid && b_awready), b_w || (b_wvalid && b_wready)};
      if (b_awvalid || b_wvalid) assert (!(b_aw && b_w));
      // Status, after the write-back that covers the descriptor.
      if (raised[2] && write_back_on) assert (b_bvalid && marked[2'(word-24'd1)]);
      if (raised[1]) assert (write_back_on && marked[last] ? b_bvalid && word == {22'd0, last} + 24'd1 : good > {2'd0, last});
      // The end.
      if (started && !running && $past(running))
        assert (!fetching && reads == '0 && addressed == answered && written == answered && !b_aw && !b_w);
      cover (raised[2:1] == 2'b11 && write_back_on && last == 2'd1 && long == 4'b0010);
      cover (raised[15] && count == 32'd1);
      cover (raised[2:1] == 2'b11 && write_back_on && last == 2'd0);
      cover (raised[2:1] == 2'b01 && last == 2'd1 && marked == 4'b0001 && write_back_on);
      cover (raised[6] && count == 32'd1 && last == 2'd1);
    end
  end

  wire unused = &{1'b0, requested, busy, finished, moved, f_araddr, d_araddr, d_arfixed, d_awfixed, b_awaddr, b_wdata, b_wstrb};
endmodule

`default_nettype wire
