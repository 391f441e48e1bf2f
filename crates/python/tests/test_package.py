"""The package itself: documentation, types, exceptions, and whether each function is tested."""

from __future__ import annotations

import builtins
import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import conftest
import pytest

import xdma
import xdma._errors


def test_every_public_thing_is_documented() -> None:
    missing = []
    for name in xdma.__all__:
        thing = getattr(xdma, name)
        if inspect.isclass(thing):
            if not thing.__doc__:
                missing.append(name)
            for member, value in vars(thing).items():
                if not member.startswith("_") and not isinstance(value, (str, thing)) and not inspect.getdoc(value):
                    missing.append(f"{name}.{member}")
    assert not missing
    assert xdma.__doc__


def test_exceptions_have_cause_remedy_and_advice() -> None:
    classes = [value for value in vars(xdma._errors).values() if inspect.isclass(value) and issubclass(value, xdma.Error)]
    assert len(classes) > 10
    for error_class in classes:
        error = error_class("why; what to do")
        assert error.cause == str(error) == "why; what to do"
        assert isinstance(error.remedy, xdma.Remedy) and isinstance(error.remedy, str) and error.advice.endswith(".")
        assert getattr(xdma, error_class.__name__) is error_class and error_class.__doc__
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is error_class and copy.cause == error.cause
    assert {remedy.advice for remedy in xdma.Remedy} and len(set(xdma.Remedy)) == 9
    assert str(xdma.Remedy.RESET) == "reset" == xdma.Remedy.RESET
    for name in ("TimeoutError", "PermissionError", "MemoryError", "BufferError"):
        assert issubclass(getattr(xdma, name), getattr(builtins, name)) and name not in xdma.__all__


@pytest.mark.unrecorded
def test_the_types_match(tmp_path: Path) -> None:
    allowed = Path(__file__).with_name("stubtest.txt")
    command = [sys.executable, "-m", "mypy.stubtest", "xdma", "--allowlist", str(allowed), "--ignore-unused-allowlist"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    program = tmp_path / "program.py"
    program.write_text(
        "import xdma\n"
        "with xdma.Card.open() as card:\n"
        "    reveal_type(card.h2c().submit(card.allocate(64, xdma.H2C)))\n"
        "    card.allocate('64', xdma.H2C)\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(program)], capture_output=True, text=True, cwd=tmp_path
    )
    assert 'Revealed type is "xdma._xdma.Ticket"' in checked.stdout and checked.stdout.count("error:") == 1, checked


def test_equality_and_hashes(card: xdma.Card) -> None:
    assert xdma.H2C == xdma.Direction.H2C != xdma.C2H and len({xdma.H2C, xdma.C2H, xdma.H2C}) == 2
    buffer = card.allocate(64, xdma.H2C)
    with card.h2c() as channel:
        tickets = [channel.submit(buffer) for _ in range(3)]
        assert len({*tickets, channel.last_ticket}) == 3
        for other in (None, 5, "ticket", xdma.H2C):
            assert tickets[0] != other


def test_every_function_has_a_test_of_success_and_of_misuse(request: pytest.FixtureRequest) -> None:
    if len(request.session.items) < 60:
        pytest.skip("only a part of the tests runs; run all of them: pytest crates/python/tests")
    functions = conftest.functions()
    assert len(functions) > 70
    # These cannot fail: a second call does nothing.
    harmless = {name for name in functions if name.endswith(".close")} | {"MsmResult.affine"}
    assert sorted(set(functions) - conftest.SUCCESS) == []
    assert sorted(set(functions) - conftest.MISUSE - harmless) == []


def test_directions_are_copied_and_pickled() -> None:
    for direction in (xdma.H2C, xdma.C2H):
        for same in (copy.copy(direction), copy.deepcopy({1: direction})[1], pickle.loads(pickle.dumps(direction))):
            assert same is getattr(xdma, "H2C" if direction == xdma.H2C else "C2H")
    assert str(xdma.H2C.__reduce__()) == "H2C"
    with pytest.raises(TypeError):
        xdma.H2C.__reduce__(1)  # type: ignore[call-arg]


def test_the_log(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = run(
        """
import xdma
def use():
    with xdma.Card.emulate(logic="memory") as card, card.h2c() as channel:
        channel.transfer(card.allocate(64, xdma.H2C))
use()
xdma.log("debug")
use()
xdma.log("off")
use()
for level in ("all", "", "5", "WARN"):
    try:
        xdma.log(level)
    except xdma.ArgumentError as error:
        assert "trace" in str(error)
    else:
        raise AssertionError(level)
print("done")
"""
    )
    assert result.stdout == "done\n" and result.stderr.count("channel opened") == 1, result
