"""Checks of the image for AWS F2: its ports and its folder for AWS's HDK."""

import json
import re

from checks.job import BugFound, Failed, Job
from checks.sources import INCLUDE, PACKAGES, modules, yosys

DIRECTIONS = {"input": "in", "output": "out", "inout": "inout"}
Ports = dict[str, tuple[str, int]]


def listed_ports(text: str) -> Ports:
    """Returns direction and width of each port in `f2/ports.txt`."""
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {name: (direction, int(width)) for direction, width, name in rows}


def differences(found: Ports, listed: Ports) -> list[str]:
    names = sorted(found.keys() | listed.keys())
    return [f"{name}: {found.get(name)}, the shell has {listed.get(name)}" for name in names if found.get(name) != listed.get(name)]


def ports(job: Job) -> None:
    """`cl_f2` has exactly the ports of the shell."""
    netlist = job.scratch / "cl_f2.json"
    read = f"read_verilog -sv -defer {INCLUDE} {' '.join(PACKAGES)} rtl/top/cl_f2.sv"
    job.succeed(yosys(f"{read}; hierarchy -top cl_f2; proc; write_json {netlist}", "-q"))
    found = json.loads(netlist.read_text())["modules"]
    [top] = [module for name, module in found.items() if "cl_f2" in name]
    here = {name: (DIRECTIONS[port["direction"]], len(port["bits"])) for name, port in top["ports"].items()}
    if wrong := differences(here, listed_ports((job.hdl / "f2/ports.txt").read_text())):
        raise BugFound("; ".join(wrong))
    job.note = f"cl_f2 has the {len(here)} ports of the shell"


def folder(job: Job) -> None:
    """The file list for the HDK names all sources, and the identifiers are those of `cl_f2`."""
    design = job.hdl / "f2/cl_f2/design"
    listed = [line for line in (design / "files.f").read_text().splitlines() if line and not line.startswith("#")]
    wanted = [*PACKAGES, *modules(job.hdl)]
    if missing := set(wanted) ^ set(listed):
        raise Failed(f"f2/cl_f2/design/files.f and the sources differ in {', '.join(sorted(missing))}")
    if listed[: len(PACKAGES)] != PACKAGES:
        raise Failed("f2/cl_f2/design/files.f does not begin with the packages")
    defines = (design / "cl_id_defines.vh").read_text()
    top = (job.hdl / "rtl/top/cl_f2.sv").read_text()
    for name in ["ID0", "ID1"]:
        [value] = re.findall(rf"`define CL_SH_{name} +32'h([0-9A-F_]+)", defines)
        if f"{name} = 32'h{value.lower()}" not in top:
            raise Failed(f"cl_id_defines.vh has another {name} than cl_f2.sv")
