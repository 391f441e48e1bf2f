`ifndef CL_F2_DEFINES
`define CL_F2_DEFINES
// For the HDK's test bench.
`define CL_NAME cl_f2
`endif
