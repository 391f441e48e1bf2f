"""The checks of each part, as generators of names and check functions."""

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from checks import f2
from checks.job import Body, BugFound, Failed, Job, runs
from checks.sources import HDL, INCLUDE, PACKAGES, YOWASP, modules, parametrised, verilator, yosys

TOPS = [
    "cl_msm",
    "msm_design -GSTUB=1",
    "msm_design -GFP_IMPL=2",
    "msm_design -GFP_IMPL=0 -GII=2",
    "dma_engine",
    "dma_engine -GH2C=4 -GC2H=4",
    "cl_f2",
]
SBY = ["yowasp-sby", "--yosys", YOWASP[0], "--smtbmc", YOWASP[1], "--witness", YOWASP[2], "-j", "1"]


@dataclass(frozen=True)
class Size:
    """A part of the design for yosys to map, and the upper limits of its resources."""

    top: str
    files: str
    # The step of `synth_xilinx` to stop before; empty to map everything.
    until: str
    limits: dict[str, int]
    # Parameters of the top that differ from their defaults.
    parameters: dict[str, int] = field(default_factory=dict)


FLIP_FLOPS, LUTS = "flip-flop bits", "LUTs"
# The LUTs of a cell (UG574). Those of memories and shift registers count too.
LUTS_OF = {
    **dict.fromkeys(["INV", "LUT1", "LUT2", "LUT3", "LUT4", "LUT5", "LUT6", "SRL16E", "SRLC32E"], 1),
    **dict.fromkeys(["RAM32M", "RAM64M"], 4),
    **dict.fromkeys(["RAM32M16", "RAM64M8"], 8),
}
FEED = Size(
    "feed",
    "rtl/common/skid.sv rtl/common/sfifo.sv rtl/axi/axi_window.sv rtl/axi/axi_write.sv rtl/axi/scalar_fifo.sv"
    " rtl/axi/watchdog.sv syn/feed.sv",
    "map_ffram",
    {"RAMB18E2": 60, FLIP_FLOPS: 1_500},
)
MULTIPLIER = Size(
    "fp_mul_tiled",
    "rtl/common/delay.sv rtl/msm/mul_tiled.sv rtl/msm/fp_mul_tiled.sv",
    "map_memory",
    {"DSP48E2": 381, FLIP_FLOPS: 70_000},
)


def engine(channels: int, limits: dict[str, int]) -> Size:
    """The DMA engine with this number of channels in each direction."""
    shared = ["rtl/common/skid.sv", "rtl/common/sfifo.sv", "rtl/axi/axil_slave.sv"]
    files = shared + [file for file in modules(HDL) if file.startswith("rtl/dma/")]
    return Size("dma_engine", " ".join(files), "", limits, {"H2C": channels, "C2H": channels})


ENGINES = {
    "1_and_1": engine(1, {LUTS: 18_000, "RAMB18E2": 60, FLIP_FLOPS: 13_500}),
    "4_and_4": engine(4, {LUTS: 60_000, "RAMB18E2": 240, FLIP_FLOPS: 35_000}),
}


def lint() -> Iterator[tuple[str, Body]]:
    for top in TOPS:
        words = top.split()
        [file] = HDL.glob(f"rtl/*/{words[0]}.sv")
        command = verilator([*words, str(file.relative_to(HDL))], "-Wall", "lint/verilator.vlt")
        yield "verilator_" + re.sub(r"\W+", "_", top), runs(command)
    for file in sorted((HDL / "sim/sv").glob("*.sv")):
        command = verilator([file.stem, f"sim/sv/{file.name}"], "-Wno-lint")
        yield f"verilator_{file.stem}", runs(command)
    files = [str(file.relative_to(HDL)) for file in sorted(HDL.rglob("*.sv*"))]
    yield "verible", runs(["verible-verilog-lint", "--rules_config", "lint/verible.rules", *files])
    read = [*PACKAGES, *modules(HDL), "sim/sv/unit_parts.sv", "syn/feed.sv"]
    for top in ["cl_msm", "cl_f2", "dma_engine", "feed", "unit_parts"]:
        script = f"read_verilog -sv {INCLUDE} {' '.join(read)}; hierarchy -check -top {top}"
        yield f"yosys_{top}", runs(yosys(script, "-q"))
        icarus = ["iverilog", "-g2012", INCLUDE, "-t", "null", "-s", top, *read]
        yield f"icarus_{top}", runs(icarus)
    yield "no_implicit_nets", no_implicit_nets
    yield "f2_ports", f2.ports
    yield "f2_folder", f2.folder


def no_implicit_nets(job: Job) -> None:
    for file in sorted(job.hdl.rglob("*.sv")):
        lines = file.read_text().splitlines()
        marked = (lines[0], lines[-1]) == ("`default_nettype none", "`default_nettype wire")
        if not marked:
            raise Failed(f"{file} does not start with `default_nettype none and end with `default_nettype wire")


# The message of each tool for a failed PARAMETER_CHECK. yosys evaluates the checks last and may stop at a zero width first.
REJECTED = re.compile(r"\w+: \w+ must |Unknown module type: illegal_\w+|Static cast with zero or negative size")


def illegal() -> Iterator[tuple[str, Body]]:
    yield "list", illegal_list
    for module in parametrised(HDL):
        yield module, partial(illegal_module, module=module)


def illegal_everywhere() -> Iterator[tuple[str, Body]]:
    for module in parametrised(HDL):
        yield module, partial(illegal_module, module=module, everywhere=True)


def illegal_list(job: Job) -> None:
    listed = tomllib.loads((job.hdl / "lint/illegal.toml").read_text())
    found = {module: names for module, (_, names) in parametrised(job.hdl).items()}
    if wrong := {module for module in listed.keys() | found if list(listed.get(module, ())) != found.get(module)}:
        raise Failed(f"lint/illegal.toml does not list the parameters of {', '.join(sorted(wrong))} in declaration order")


def illegal_module(job: Job, module: str, everywhere: bool = False) -> None:
    """Verilator, or with `everywhere` the other tools, must accept the default parameters of a module, and reject each illegal value."""
    listed = tomllib.loads((job.hdl / "lint/illegal.toml").read_text()).get(module, {})
    file = parametrised(job.hdl)[module][0]
    cases = [""] + [f"#(.{name}({value})) " for name, values in listed.items() for value in values]
    for number, case in enumerate(cases):
        top = job.scratch / f"top_{number}.sv"
        top.write_text(f"module top;\n  {module} {case}dut ();\nendmodule\n")
        for command in elaborations(job, file, os.path.relpath(top, job.hdl)):
            if everywhere == (command[0] == "verilator"):
                continue
            status, text = job.run(command)
            if not case and status != 0:
                raise Failed(f"{command[0]} rejects the default parameters of {module}")
            if case and status == 0:
                raise BugFound(f"{command[0]} accepts {module} {case.strip()}")
            if case and not REJECTED.search(text):
                raise Failed(f"{command[0]} rejects {module} {case.strip()} without the expected message")


def elaborations(job: Job, file: str, top: str) -> Iterator[list[str]]:
    # As in `sim/build.rs`: the warning of PARAMETER_CHECK is the only one treated as an error.
    yield verilator(["top", top], "-Wno-lint", "-Wno-fatal", "-Werror-USERERROR", "-y", "formal")
    if not file.endswith("_dpi.sv"):
        others = [other for other, _ in parametrised(job.hdl).values() if other.startswith("formal")]
        files = [*PACKAGES, *modules(job.hdl), *others, top]
        yield yosys(f"read_verilog -sv -formal -defer {INCLUDE} {' '.join(files)}; hierarchy -check -top top", "-q")
        yield ["iverilog", "-g2012", INCLUDE, "-t", "null", "-s", "top", *files]


def tasks(sby: str) -> list[str]:
    """Returns the task names, the first words of the lines in the section `[tasks]`."""
    section = re.search(r"^\[tasks\]\n(.*?)^\s*$", sby, re.MULTILINE | re.DOTALL)
    return [line.split()[0] for line in section[1].splitlines()] if section else []


def verdict(text: str, task: str) -> str | None:
    """Returns the verdict of SymbiYosys on a task, from `... proof_TASK] DONE (PASS, rc=0)`."""
    found = re.search(rf"proof_{re.escape(task)}\] DONE \((\w+)", text)
    return found and found[1]


def is_long(task: str) -> bool:
    return task.endswith(("_cover", "_deep"))


def proofs(long: bool) -> Iterator[tuple[str, Body]]:
    for task in tasks((HDL / "formal/proofs.sby").read_text()):
        if is_long(task) == long:
            yield task, partial(proof, task=task)


def proof(job: Job, task: str) -> None:
    _, text = job.run([*SBY, "--prefix", str(job.scratch / "proof"), "-f", "formal/proofs.sby", task])
    match verdict(text, task):
        case "PASS":
            return
        case "FAIL":
            raise BugFound("the proof failed")
        case result:
            raise Failed(f"the proof ended with {result}" if result else "the proof did not finish")


def cocotb(job: Job, module: str) -> None:
    config = shutil.which("cocotb-config")
    if config is None:
        raise Failed('cocotb is missing; see "Tools" in hdl/README.md')
    if shutil.which("iverilog") is None:
        raise Failed('iverilog is missing; see "Tools" in hdl/README.md')
    status, _ = job.run([str(Path(config).with_name("python3")), "cocotb/run.py", str(job.scratch), f"test_{module}"])
    results = job.scratch / "results.xml"
    if status != 0 and results.exists() and "<failure" in results.read_text():
        raise BugFound("a test failed")
    if status != 0:
        raise Failed(f"cocotb/run.py exited with status {status}")


def cells(stat: str, kind: str) -> int:
    """Counts cells of a kind in the whole hierarchy, the last list of `stat -width`, as printed before and since yosys 0.30."""
    total = 0
    for line in stat.rpartition("=== design hierarchy ===")[2].splitlines():
        match line.split():
            case [name, count] if count.isdecimal():
                pass
            case [count, name] if count.isdecimal():
                pass
            case _:
                continue
        if kind == FLIP_FLOPS:
            if flip_flop := re.fullmatch(r"\$(?:dff|dffe|sdff|sdffe|sdffce)_(\d+)|FD[RSCP]E", name):
                total += int(count) * int(flip_flop[1] or 1)
        elif kind == LUTS:
            if re.match(r"LUT|INV$|SRL|RAM\d", name):
                total += int(count) * LUTS_OF[name]
        elif name == kind:
            total += int(count)
    return total


def size(job: Job, part: Size) -> None:
    read = f"read_verilog -sv {INCLUDE} {' '.join(PACKAGES)} {part.files}"
    for name, value in part.parameters.items():
        read += f"; chparam -set {name} {value} {part.top}"
    map_it = f"synth_xilinx -family xcup -noiopad -noclkbuf -top {part.top} -run begin:{part.until}"
    # In a file, because yosys in WebAssembly prints nothing after it has run abc.
    stat = job.scratch / "stat"
    job.succeed(yosys(f"{read}; {map_it}; tee -o {stat} stat -width"))
    figures = {kind: cells(stat.read_text(), kind) for kind in part.limits}
    name = " ".join([part.top, *(f"{name}={value}" for name, value in part.parameters.items())])
    job.note = ", ".join(f"{name} {count:,} {kind} of {part.limits[kind]:,}" for kind, count in figures.items())
    for kind, limit in part.limits.items():
        if not 0 < figures[kind] <= limit:
            raise Failed(f"{figures[kind]} {kind}; expected 1 to {limit}")


def planted() -> Iterator[tuple[str, Body]]:
    for bug in tomllib.loads((HDL / "formal/planted.toml").read_text())["bug"]:
        yield re.sub(r"\W+", "_", bug["what"]), partial(plant, bug=bug)


def plant(job: Job, bug: dict[str, str]) -> None:
    """A copy of the design with the bug fails the check that must find it."""
    copy = job.scratch / "hdl"
    for folder in ["rtl", "formal", "cocotb", "lint"]:
        shutil.copytree(HDL / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / bug["file"]
    text = file.read_text()
    if text.count(bug["right"]) != 1:
        raise Failed(f"{bug['file']} does not contain `{bug['right']}` exactly once")
    file.write_text(text.replace(bug["right"], bug["wrong"]))
    try:
        dict(checks())[bug["caught_by"]](Job(copy, job.scratch, job.log, job.processes))
    except BugFound:
        return
    raise Failed(f"{bug['caught_by']} passes despite the bug")


def checks() -> Iterator[tuple[str, Body]]:
    parts: dict[str, Iterator[tuple[str, Body]]] = {
        "self": iter([("unit_tests", runs([sys.executable, "test_check.py"]))]),
        # Long checks come first, so that the short ones fill the gaps.
        "proofs": proofs(long=False),
        "cocotb": iter([(module, partial(cocotb, module=module)) for module in ["design", "engine", "bridge"]]),
        "illegal": illegal(),
        "lint": lint(),
        "synthesis": iter([("feed", partial(size, part=FEED))]),
        "covers": proofs(long=True),
        "planted": planted(),
        "everywhere": illegal_everywhere(),
        "multiplier": iter([("fp_mul_tiled", partial(size, part=MULTIPLIER))]),
        "engine": iter([(channels, partial(size, part=part)) for channels, part in ENGINES.items()]),
    }
    for part, bodies in parts.items():
        for name, body in bodies:
            yield f"{part}::{name}", body
