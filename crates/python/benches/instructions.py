"""Counts the instructions of a transfer in Python with callgrind: ``python3 crates/python/benches/instructions.py``.

Needs cargo and valgrind. The card's registers are plain memory, as in ``cargo bench --bench instructions``, which counts the same transfers in
Rust and in C. A figure is the difference between loops of 1,000 and 2,000 rounds, less that of the same loop without the transfer. So it
includes the interpreter's own instructions for the calls. It varies by less than a hundredth between runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]

CASES = {
    # name: ring with credits, size, body of the loop
    "transfer of 64 bytes, credits ring": (True, 64, "complete(); transfer(buffer, 0x1000, size=size)"),
    "transfer of 4 KiB, credits ring": (True, 4096, "complete(); transfer(buffer, 0x1000, size=size)"),
    "submit and wait, 4 KiB, credits ring": (
        True,
        4096,
        "ticket = submit(buffer, 0x1000, size=size); complete(); wait(ticket)",
    ),
    "submit and wait, 4 KiB, chain ring": (
        False,
        4096,
        "ticket = submit(buffer, 0x1000, size=size); complete(); wait(ticket)",
    ),
}
NOTHING = "complete()"

PROGRAM = """
import xdma._xdma as native
channel, buffer, engine = native._plain({credits})
transfer, submit, wait, complete, size = channel.transfer, channel.submit, channel.wait, engine.complete, {size}
def run(rounds):
    for _ in range(rounds):
        {body}
run({rounds})
"""


def count(package: Path, credits: bool, size: int, body: str, rounds: int) -> int:
    program = PROGRAM.format(credits=credits, size=size, body=body, rounds=rounds)
    output = package / "callgrind.out"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", sys.executable, "-c", program]
    environment = os.environ | {"PYTHONPATH": str(package), "PYTHONHASHSEED": "0"}
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    totals = [line for line in output.read_text().splitlines() if line.startswith(("summary:", "totals:"))]
    return int(totals[0].split()[1])


def of_a_round(package: Path, credits: bool, size: int, body: str) -> float:
    once, twice = (count(package, credits, size, body, rounds) for rounds in (1000, 2000))
    return (twice - once) / 1000


def main() -> None:
    build = ["cargo", "build", "--quiet", "--release", "--package", "xdma-python", "--features", "instructions"]
    subprocess.run(build, check=True, cwd=ROOT)
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory)
        shutil.copytree(ROOT / "crates/python/python/xdma", package / "xdma", ignore=shutil.ignore_patterns("*.so"))
        shutil.copy(target / "release/lib_xdma.so", package / "xdma/_xdma.abi3.so")
        # On the chain ring, nothing can be completed before something was submitted.
        nothing = of_a_round(package, True, 64, NOTHING)
        for name, (credits, size, body) in CASES.items():
            figure = of_a_round(package, credits, size, body) - nothing
            print(f"{name}: {figure:.0f} instructions", flush=True)


if __name__ == "__main__":
    main()
