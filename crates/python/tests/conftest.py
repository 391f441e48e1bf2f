"""Fixtures, and a record of which functions of the package the tests called, with and without an exception."""

from __future__ import annotations

import gc
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

import xdma

# The emulated card aborts the process if the driver breaks one of its rules.
os.environ["XDMA_STRICT"] = "1"

SUCCESS: set[str] = set()
MISUSE: set[str] = set()


def functions() -> dict[str, object]:
    """Returns the public functions of the package by qualified name."""
    found: dict[str, object] = {}
    for name in xdma.__all__:
        of_class = getattr(xdma, name)
        if inspect.isclass(of_class) and of_class.__module__ == "xdma":
            for method, value in vars(of_class).items():
                if not method.startswith("_") and (callable(value) or isinstance(value, staticmethod)):
                    found[f"{name}.{method}"] = getattr(of_class, method)
    return found


def record(_frame: object, event: str, called: object) -> None:
    if event in ("c_return", "c_exception"):
        name = getattr(called, "__qualname__", "")
        (SUCCESS if event == "c_return" else MISUSE).add(name)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("unrecorded"):
        yield
        return
    sys.setprofile(record)
    threading.setprofile(record)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "unrecorded: runs without the record of called functions, which costs time")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Reads the record, so it runs last.
    items.sort(key=lambda item: item.name == "test_every_function_has_a_test_of_success_and_of_misuse")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the results in the format of ``cargo test``, which ``cargo xtask test`` reads."""
    counts = {kind: terminalreporter.stats.get(kind, []) for kind in ("passed", "failed", "error", "skipped")}
    for report in counts["failed"] + counts["error"]:
        terminalreporter.write_line(f"test {report.nodeid} ... FAILED")
    for report in counts["skipped"]:
        terminalreporter.write_line(f"test {report.nodeid} ... ignored, {report.longrepr[2]}")
    failed = len(counts["failed"] + counts["error"])
    verdict = "FAILED" if failed else "ok"
    passed, ignored = len(counts["passed"]), len(counts["skipped"])
    terminalreporter.write_line(f"test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored")


@pytest.fixture
def card() -> Iterator[xdma.Card]:
    with xdma.Card.emulate(logic="memory") as card:
        yield card
    gc.collect()


@pytest.fixture
def streams() -> Iterator[xdma.Card]:
    with xdma.Card.emulate(logic="loopback", idle_limit=2) as card:
        yield card


@pytest.fixture
def msm_card() -> Iterator[xdma.Card]:
    with xdma.Card.emulate() as card:
        yield card


@pytest.fixture
def stuck() -> Iterator[tuple[xdma.Card, xdma.Channel, xdma.Buffer]]:
    """A card whose stream accepts no data, so a transfer that was submitted never ends."""
    with xdma.Card.emulate(logic="loopback", idle_limit=1) as card:
        channel, buffer = card.sender(), card.allocate(1 << 22, xdma.H2C)
        yield card, channel, buffer


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in an interpreter of its own."""

    def run(program: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "faulthandler", "-c", program]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    return run
