`ifndef AXI_PORTS_SVH
`define AXI_PORTS_SVH

// Port lists of AXI4 and AXI4-Lite slaves and of AXI4 masters, and the matching connections. IN is the prefix of signals that the master drives, OUT
// of signals that the slave drives. The _INCR forms have no burst type, like the ports of the AWS shell. A port list ends with a
// comma, so another port must follow; a connection list does not. Verible can parse only these forms without the macro
// definitions.

`define AXI4_WRITE_PORTS_INCR(IN, OUT, ID_W, ADDR_W, DATA_W) \
  `AXI4_WRITE_LIST(input wire, output logic, IN, OUT, ID_W, ADDR_W, DATA_W)
`define AXI4_WRITE_PORTS(IN, OUT, ID_W, ADDR_W, DATA_W) \
  `AXI4_WRITE_LIST(input wire, output logic, IN, OUT, ID_W, ADDR_W, DATA_W) \
  input wire [1:0] IN``awburst,
// Inputs only, for a module that monitors both sides.
`define AXI4_WRITE_MONITOR(IN, OUT, ID_W, ADDR_W, DATA_W) \
  `AXI4_WRITE_LIST(input wire, input wire, IN, OUT, ID_W, ADDR_W, DATA_W) \
  input wire [1:0] IN``awburst,

// For a master; all its signals have the prefix PORT.
`define AXI4_WRITE_MASTER_PORTS(PORT, ID_W, ADDR_W, DATA_W) \
  `AXI4_WRITE_LIST(output logic, input wire, PORT, PORT, ID_W, ADDR_W, DATA_W) \
  output logic [1:0] PORT``awburst,

`define AXI4_WRITE_LIST(MASTER, SLAVE, IN, OUT, ID_W, ADDR_W, DATA_W) \
  MASTER [    ID_W-1:0] IN``awid, \
  MASTER [  ADDR_W-1:0] IN``awaddr, \
  MASTER [         7:0] IN``awlen, \
  MASTER [         2:0] IN``awsize, \
  MASTER                IN``awvalid, \
  SLAVE                 OUT``awready, \
  MASTER [  DATA_W-1:0] IN``wdata, \
  MASTER [DATA_W/8-1:0] IN``wstrb, \
  MASTER                IN``wlast, \
  MASTER                IN``wvalid, \
  SLAVE                 OUT``wready, \
  SLAVE  [    ID_W-1:0] OUT``bid, \
  SLAVE  [         1:0] OUT``bresp, \
  SLAVE                 OUT``bvalid, \
  MASTER                IN``bready,

`define AXI4_READ_PORTS(IN, OUT, ID_W, ADDR_W, DATA_W) \
  `AXI4_READ_PORTS_INCR(IN, OUT, ID_W, ADDR_W, DATA_W) \
  input wire [1:0] IN``arburst,
`define AXI4_READ_PORTS_INCR(IN, OUT, ID_W, ADDR_W, DATA_W) \
  `AXI4_READ_LIST(input wire, output logic, IN, OUT, ID_W, ADDR_W, DATA_W)
// For a master; all its signals have the prefix PORT.
`define AXI4_READ_MASTER_PORTS(PORT, ID_W, ADDR_W, DATA_W) \
  `AXI4_READ_LIST(output logic, input wire, PORT, PORT, ID_W, ADDR_W, DATA_W) \
  output logic [1:0] PORT``arburst,

`define AXI4_READ_LIST(MASTER, SLAVE, IN, OUT, ID_W, ADDR_W, DATA_W) \
  MASTER [  ID_W-1:0] IN``arid, \
  MASTER [ADDR_W-1:0] IN``araddr, \
  MASTER [       7:0] IN``arlen, \
  MASTER [       2:0] IN``arsize, \
  MASTER              IN``arvalid, \
  SLAVE               OUT``arready, \
  SLAVE  [  ID_W-1:0] OUT``rid, \
  SLAVE  [DATA_W-1:0] OUT``rdata, \
  SLAVE  [       1:0] OUT``rresp, \
  SLAVE               OUT``rlast, \
  SLAVE               OUT``rvalid, \
  MASTER              IN``rready,

// 32-bit addresses and data, without AWPROT and ARPROT.
`define AXIL_PORTS(IN, OUT) \
  `AXIL_LIST(input wire, output logic, IN, OUT)
// For a master; all its signals have the prefix PORT.
`define AXIL_MASTER_PORTS(PORT) \
  `AXIL_LIST(output logic, input wire, PORT, PORT)

`define AXIL_LIST(MASTER, SLAVE, IN, OUT) \
  MASTER [31:0] IN``awaddr, \
  MASTER        IN``awvalid, \
  SLAVE         OUT``awready, \
  MASTER [31:0] IN``wdata, \
  MASTER [ 3:0] IN``wstrb, \
  MASTER        IN``wvalid, \
  SLAVE         OUT``wready, \
  SLAVE  [ 1:0] OUT``bresp, \
  SLAVE         OUT``bvalid, \
  MASTER        IN``bready, \
  MASTER [31:0] IN``araddr, \
  MASTER        IN``arvalid, \
  SLAVE         OUT``arready, \
  SLAVE  [31:0] OUT``rdata, \
  SLAVE  [ 1:0] OUT``rresp, \
  SLAVE         OUT``rvalid, \
  MASTER        IN``rready,

// The signals between two modules.
`define AXIL_WIRES(PORT) \
  logic [31:0] PORT``awaddr, PORT``wdata, PORT``araddr, PORT``rdata; \
  logic [3:0] PORT``wstrb; \
  logic [1:0] PORT``bresp, PORT``rresp; \
  logic PORT``awvalid, PORT``awready, PORT``wvalid, PORT``wready, PORT``bvalid, PORT``bready; \
  logic PORT``arvalid, PORT``arready, PORT``rvalid, PORT``rready;
`define AXI4_WIRES(PORT, ID_W, ADDR_W, DATA_W) \
  logic [ID_W-1:0] PORT``awid, PORT``bid, PORT``arid, PORT``rid; \
  logic [ADDR_W-1:0] PORT``awaddr, PORT``araddr; \
  logic [7:0] PORT``awlen, PORT``arlen; \
  logic [2:0] PORT``awsize, PORT``arsize; \
  logic [1:0] PORT``awburst, PORT``arburst, PORT``bresp, PORT``rresp; \
  logic [DATA_W-1:0] PORT``wdata, PORT``rdata; \
  logic [DATA_W/8-1:0] PORT``wstrb; \
  logic PORT``awvalid, PORT``awready, PORT``wvalid, PORT``wready, PORT``wlast, PORT``bvalid, PORT``bready; \
  logic PORT``arvalid, PORT``arready, PORT``rvalid, PORT``rready, PORT``rlast;

`define AXI4_WRITE_CONNECT(PORT, IN, OUT) \
  `AXI4_WRITE_CONNECT_INCR(PORT, IN, OUT), \
  .PORT``awburst(IN``awburst)
`define AXI4_WRITE_CONNECT_INCR(PORT, IN, OUT) \
  .PORT``awid   (IN``awid), \
  .PORT``awaddr (IN``awaddr), \
  .PORT``awlen  (IN``awlen), \
  .PORT``awsize (IN``awsize), \
  .PORT``awvalid(IN``awvalid), \
  .PORT``awready(OUT``awready), \
  .PORT``wdata  (IN``wdata), \
  .PORT``wstrb  (IN``wstrb), \
  .PORT``wlast  (IN``wlast), \
  .PORT``wvalid (IN``wvalid), \
  .PORT``wready (OUT``wready), \
  .PORT``bid    (OUT``bid), \
  .PORT``bresp  (OUT``bresp), \
  .PORT``bvalid (OUT``bvalid), \
  .PORT``bready (IN``bready)

`define AXI4_READ_CONNECT(PORT, IN, OUT) \
  `AXI4_READ_CONNECT_INCR(PORT, IN, OUT), \
  .PORT``arburst(IN``arburst)
`define AXI4_READ_CONNECT_INCR(PORT, IN, OUT) \
  .PORT``arid   (IN``arid), \
  .PORT``araddr (IN``araddr), \
  .PORT``arlen  (IN``arlen), \
  .PORT``arsize (IN``arsize), \
  .PORT``arvalid(IN``arvalid), \
  .PORT``arready(OUT``arready), \
  .PORT``rid    (OUT``rid), \
  .PORT``rdata  (OUT``rdata), \
  .PORT``rresp  (OUT``rresp), \
  .PORT``rlast  (OUT``rlast), \
  .PORT``rvalid (OUT``rvalid), \
  .PORT``rready (IN``rready)

`define AXIL_CONNECT(PORT, IN, OUT) \
  .PORT``awaddr (IN``awaddr), \
  .PORT``awvalid(IN``awvalid), \
  .PORT``awready(OUT``awready), \
  .PORT``wdata  (IN``wdata), \
  .PORT``wstrb  (IN``wstrb), \
  .PORT``wvalid (IN``wvalid), \
  .PORT``wready (OUT``wready), \
  .PORT``bresp  (OUT``bresp), \
  .PORT``bvalid (OUT``bvalid), \
  .PORT``bready (IN``bready), \
  .PORT``araddr (IN``araddr), \
  .PORT``arvalid(IN``arvalid), \
  .PORT``arready(OUT``arready), \
  .PORT``rdata  (OUT``rdata), \
  .PORT``rresp  (OUT``rresp), \
  .PORT``rvalid (OUT``rvalid), \
  .PORT``rready (IN``rready)

`endif
