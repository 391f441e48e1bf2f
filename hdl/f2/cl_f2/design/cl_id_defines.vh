`ifndef CL_ID_DEFINES
`define CL_ID_DEFINES
// The identifiers of the PCI function, from which the HDK writes the manifest: device and vendor, subsystem and its vendor.
// `1d0f:f001` is one of AWS's own examples; the stock `xdma.ko` knows it.
`define CL_SH_ID0 32'hF001_1D0F
`define CL_SH_ID1 32'h1D51_FEDC
`endif
