`ifndef PARAMETER_CHECK_SVH
`define PARAMETER_CHECK_SVH

// Module item that stops elaboration with MESSAGE unless the constant expression LEGAL is true. NAME is the module and the
// parameter, such as `sfifo_D`. Icarus 11 has no elaboration system tasks, so there the check instantiates a module that does not
// exist, `illegal_sfifo_D`. Verilator reports MESSAGE as the warning USERERROR; `-Werror-USERERROR` turns it into an error.
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
