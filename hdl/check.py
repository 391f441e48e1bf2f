#!/usr/bin/env python3
"""Checks the MSM design and the DMA engine without Rust: `python3 hdl/check.py [PART...]`.

PART selects the checks whose names start with it. These parts run by default:

    self       unit tests of this program
    lint       Verilator -Wall, verible, yosys and Icarus; no implicit nets
    illegal    Verilator accepts the defaults and rejects every illegal parameter value in lint/illegal.toml
    proofs     the proof of each formally verified module: by induction, or bounded
    cocotb     the design under an independent AXI master, the engine between independent AXI slaves
    synthesis  the size of the feed, against a limit

These run if named, or with `--all`:

    covers     the cover task of each proof, and four proofs with a deeper bound
    planted    each bug in formal/planted.toml is found by the check named there
    everywhere the checks of illegal, with yosys and Icarus
    multiplier the size of the tiled multiplier, against a limit
    engine     the size of the DMA engine with 1 + 1 and 4 + 4 channels, against limits

hdl/README.md lists the tools and the run times. The log of each check is in `DIR/logs`; see `--build`.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit("check.py needs Python 3.11 or later, for tomllib")

import argparse
import fcntl
import os
import shutil
import signal
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from checks.job import Body, Failed, Job, Processes
from checks.parts import checks
from checks.sources import HDL, YOWASP, yosys

DEFAULT = ("self", "lint", "illegal", "proofs", "cocotb", "synthesis")
LONG = ("covers", "planted", "everywhere", "multiplier", "engine")


def warm_up(build: Path, processes: Processes) -> None:
    """Makes yowasp compile its WebAssembly once. Parallel processes would each compile it, into the same file."""
    cache, marker = Path(os.environ["YOWASP_CACHE_DIR"]), build / "yowasp-is-warm"
    tools = [shutil.which(tool) or "" for tool in YOWASP]
    if not all(tools):
        return  # The checks that need the missing tools report it.
    # The cache is only valid for these tools: a changed path or modification time makes it stale.
    state = "".join(f"{tool} {Path(tool).stat().st_mtime_ns}\n" for tool in tools)
    if marker.exists() and marker.read_text() == state and cache.exists():
        return
    print("compiling the WebAssembly of yosys, only this once: half a minute to four minutes", file=sys.stderr, flush=True)
    marker.unlink(missing_ok=True)
    # An interrupted run may have left a truncated file.
    shutil.rmtree(cache, ignore_errors=True)
    job = Job(HDL, build, build / "logs/warm_up.log", processes)
    job.succeed(yosys("stat", "-q"))
    for tool in tools[1:]:
        job.succeed([tool, "--help"])
    marker.write_text(state)


def execute(name: str, body: Body, build: Path, processes: Processes) -> tuple[str, Job, str]:
    """Runs a check in its own empty folder. Returns an error message too, which is empty if the check passed."""
    path = name.replace("::", "/")
    job = Job(HDL, build / "work" / path, build / "logs" / f"{path}.log", processes)
    shutil.rmtree(job.scratch, ignore_errors=True)
    job.scratch.mkdir(parents=True)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.log.write_text("")
    start, error = time.monotonic(), ""
    try:
        body(job)
    except Failed as failure:
        error = str(failure)
    except Exception:
        error = traceback.format_exc()
    with job.log.open("a") as log:
        log.write(f"{time.monotonic() - start:.1f} s, {error or 'ok'}\n")
    return name, job, error


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", metavar="PART", nargs="*", help="run only checks whose names start with PART")
    parser.add_argument("--all", action="store_true", help="also run the long parts")
    parser.add_argument("--list", action="store_true", help="list the checks without running them")
    parser.add_argument("--build", type=Path, default=HDL.parent / "target/hdl", metavar="DIR", help="output folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="checks to run in parallel")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    everything = list(checks())
    wanted = options.parts or DEFAULT + (LONG if options.all else ())
    selected = [(name, body) for name, body in everything if name.startswith(tuple(wanted))]
    for part in wanted:
        if not any(name.startswith(part) for name, _ in selected):
            sys.exit(f"no check name starts with `{part}`; --list shows the names")
    if options.list:
        print("\n".join(f"{name}: test" for name, _ in selected))
        return 0

    build = options.build.resolve()
    (build / "logs").mkdir(parents=True, exist_ok=True)
    os.environ["YOWASP_CACHE_DIR"] = str(build / "yowasp-cache")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # The tools may be next to the interpreter of a virtual environment that is not activated.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{Path(sys.executable).parent}"
    # A second run in the same folder would delete the files of the first.
    lock = (build / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)

    processes = Processes()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    start = time.monotonic()
    pool = ThreadPoolExecutor(max(1, options.jobs))
    failures: list[tuple[str, Job, str]] = []
    notes: list[str] = []
    try:
        if any(not name.startswith(("self", "cocotb")) for name, _ in selected):
            try:
                # In a thread, like all commands: a signal cannot interrupt between the start of a process and its registration.
                pool.submit(warm_up, build, processes).result()
            except Failed as failure:
                sys.exit(f"cannot run yosys: {failure}; see {build / 'logs/warm_up.log'}")
        print(f"\nrunning {len(selected)} tests", flush=True)
        for future in as_completed([pool.submit(execute, *check, build, processes) for check in selected]):
            name, job, error = future.result()
            print(f"test {name} ... {'FAILED' if error else 'ok'}", flush=True)
            if error:
                failures.append((name, job, error))
            if job.note:
                notes.append(job.note)
    finally:
        processes.stop()
        pool.shutdown(cancel_futures=True)

    for name, job, _ in failures:
        tail = "\n".join(job.log.read_text(errors="replace").splitlines()[-40:])
        print(f"\n---- {name} ----\n{tail}\nfull log: {job.log}")
    if failures:
        print("\nfailures:\n" + "\n".join(f"    {name}" for name, _, _ in sorted(failures, key=lambda f: f[0])))
    if notes:
        print(f"\nnote: {', '.join(sorted(notes))}")
    print(
        f"\ntest result: {'FAILED' if failures else 'ok'}. {len(selected) - len(failures)} passed; {len(failures)} failed;"
        f" 0 ignored; 0 measured; {len(everything) - len(selected)} filtered out;"
        f" finished in {time.monotonic() - start:.2f}s\n",
        flush=True,
    )
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
