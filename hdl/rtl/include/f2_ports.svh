`ifndef F2_PORTS_SVH
`define F2_PORTS_SVH

// The signals of an AXI4 port of the AWS F2 shell. IN is the prefix of signals that the master drives, OUT of signals that the slave
// drives.
`define F2_AXI4_LIST(MASTER, SLAVE, IN, OUT) \
  `AXI4_WRITE_LIST(MASTER, SLAVE, IN, OUT, 16, 64, 512) \
  MASTER [ 1:0] IN``awburst, \
  MASTER [ 3:0] IN``awcache, \
  MASTER        IN``awlock, \
  MASTER [ 2:0] IN``awprot, \
  MASTER [ 3:0] IN``awqos, \
  MASTER [54:0] IN``awuser, \
  MASTER [15:0] IN``wid, \
  MASTER [63:0] IN``wuser, \
  `AXI4_READ_LIST(MASTER, SLAVE, IN, OUT, 16, 64, 512) \
  MASTER [ 1:0] IN``arburst, \
  MASTER [ 3:0] IN``arcache, \
  MASTER        IN``arlock, \
  MASTER [ 2:0] IN``arprot, \
  MASTER [ 3:0] IN``arqos, \
  MASTER [54:0] IN``aruser, \
  SLAVE  [63:0] OUT``ruser,

// One of the two groups of the HBM monitor.
`define F2_HBM_MONITOR(N) \
  input  wire         hbm_apb_preset_n_``N, \
  output logic [21:0] hbm_apb_paddr_``N, \
  output logic [ 2:0] hbm_apb_pprot_``N, \
  output logic        hbm_apb_psel_``N, \
  output logic        hbm_apb_penable_``N, \
  output logic        hbm_apb_pwrite_``N, \
  output logic [31:0] hbm_apb_pwdata_``N, \
  output logic [ 3:0] hbm_apb_pstrb_``N, \
  output logic        hbm_apb_pready_``N, \
  output logic [31:0] hbm_apb_prdata_``N, \
  output logic        hbm_apb_pslverr_``N,

`endif
