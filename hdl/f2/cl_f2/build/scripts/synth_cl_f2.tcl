# Synthesis of `cl_f2` in AWS's HDK, which sources this script. Untried: see ../../../README.md.

source ${HDK_SHELL_DIR}/build/scripts/synth_cl_header.tcl

print "Reading the sources of cl_f2"
set design_dir $::env(CL_DIR)/design
set list [open ${design_dir}/files.f]
foreach line [split [read ${list}] "\n"] {
    if {${line} ne "" && ![string match "#*" ${line}]} {
        read_verilog -sv ${design_dir}/[file tail ${line}]
    }
}
close ${list}

print "Reading the constraints of cl_f2"
foreach name {cl_synth_user.xdc cl_timing_user.xdc} {
    read_xdc ${constraints_dir}/${name}
    set_property PROCESSING_ORDER LATE [get_files ${name}]
}

print "Synthesizing ${CL}"
update_compile_order -fileset sources_1
# F2_SH_DDR: the HDK's `sh_ddr` is on the pins of the memory.
synth_design -mode out_of_context \
             -top ${CL} \
             -include_dirs ${design_dir} \
             -verilog_define XSDB_SLV_DIS \
             -verilog_define F2_SH_DDR \
             -part ${DEVICE_TYPE} \
             -keep_equivalent_registers

source ${HDK_SHELL_DIR}/build/scripts/synth_cl_footer.tcl
