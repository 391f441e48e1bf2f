`ifndef PARAMETER_CHECK_SVH
`define PARAMETER_CHECK_SVH

// A module item that stops elaboration with MESSAGE unless the constant LEGAL holds. NAME is the module and the parameter,
// `sfifo_D`. Icarus 11 has no elaboration tasks, so there a module that does not exist stops it: `illegal_sfifo_D`.
// In Verilator the message is the warning USERERROR, which `-Werror-USERERROR` makes an error.
`ifdef __ICARUS__
`define PARAMETER_CHECK(NAME, LEGAL, MESSAGE) \
  generate \
    if (!(LEGAL)) begin : g_illegal_``NAME \
      illegal_``NAME u_stop (); \
    end \
  endgenerate
`else
`define PARAMETER_CHECK(NAME, LEGAL, MESSAGE) \
  generate \
    if (!(LEGAL)) begin : g_illegal_``NAME \
      $error(MESSAGE); \
    end \
  endgenerate
`endif

`endif
