"""Runs the tests in this folder on Icarus: python run.py BUILD_FOLDER"""

import sys
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

here = Path(__file__).resolve().parent
rtl = here.parent / "rtl"
build = Path(sys.argv[1]).resolve()
packages = [rtl / "common/msm_regs_pkg.sv", rtl / "common/msm_pkg.sv", rtl / "msm/bn254_pkg.sv"]
# Icarus does not support DPI.
modules = [f for f in sorted(rtl.glob("*/*.sv")) if f not in packages and not f.name.endswith("_dpi.sv")]

runner = get_runner("icarus")
runner.build(
    sources=packages + modules,
    hdl_toplevel="msm_design",
    parameters={"STUB": 1, "STUB_N": 3, "SC_DEPTH": 64, "PT_DEPTH": 64},
    includes=[rtl / "include"],
    build_args=["-g2012"],
    build_dir=build,
    always=True,
    timescale=("1ns", "1ps"),
)
results = runner.test(
    hdl_toplevel="msm_design",
    test_module="test_design",
    test_dir=here,
    build_dir=build,
    results_xml=str(build / "results.xml"),
)
tests, failed = get_results(results)
print(f"{tests - failed} passed, {failed} failed")
sys.exit(failed != 0 or tests == 0)
