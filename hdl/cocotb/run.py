"""Runs a test module of this folder on Icarus: python run.py BUILD_FOLDER MODULE"""

import sys
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

here = Path(__file__).resolve().parent
rtl = here.parent / "rtl"
build = Path(sys.argv[1]).resolve()
packages = [rtl / path for path in [
    "common/msm_regs_pkg.sv",
    "common/xdma_regs_pkg.sv",
    "common/msm_pkg.sv",
    "dma/dma_pkg.sv",
    "msm/bn254_pkg.sv",
]]
# Icarus does not support DPI.
modules = [f for f in sorted(rtl.glob("*/*.sv")) if f not in packages and not f.name.endswith("_dpi.sv")]
TOPS = {
    "test_design": ("msm_design", {"STUB": 1, "STUB_N": 3, "SC_DEPTH": 64, "PT_DEPTH": 64}),
    "test_bridge": ("f2_bridge", {"PCIS_CYCLES": 400}),
    "test_engine": ("dma_engine", {"H2C": 2, "C2H": 3, "ACK_CYCLES": 200, "WATCHDOG": 3000, "RESET_WATCHDOG": 500}),
}

test = sys.argv[2]
top, parameters = TOPS[test]
runner = get_runner("icarus")
runner.build(
    sources=packages + modules,
    hdl_toplevel=top,
    parameters=parameters,
    includes=[rtl / "include"],
    build_args=["-g2012"],
    build_dir=build,
    always=True,
    timescale=("1ns", "1ps"),
)
results = runner.test(
    hdl_toplevel=top,
    test_module=test,
    test_dir=here,
    build_dir=build,
    results_xml=str(build / "results.xml"),
)
tests, failed = get_results(results)
print(f"{tests - failed} passed, {failed} failed")
sys.exit(failed != 0 or tests == 0)
