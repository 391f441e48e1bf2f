"""Forked processes, and the end of the interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import xdma

Run = Callable[..., "subprocess.CompletedProcess[str]"]

FORK = """
import gc, os, sys, threading, xdma
card = xdma.Card.emulate(logic="memory")
channel, buffer, sink = card.h2c(), card.allocate(1 << 16, xdma.H2C), card.allocate(4096, xdma.C2H)
view, other = memoryview(buffer), memoryview(sink)
view[:] = b"x" * len(view)
interrupt, program, ticket = card.user_interrupt(0), channel.program([(buffer, 0)]), channel.submit(buffer)
# Threads of the parent hold locks while it forks.
stop = threading.Event()
threads = [threading.Thread(target=lambda: [channel.transfer(buffer) for _ in iter(stop.is_set, True)]) for _ in range(2)]
for thread in threads: thread.start()
def child():
    for call in (lambda: channel.transfer(buffer), lambda: channel.wait(ticket), lambda: card.allocate(64, xdma.H2C),
                 buffer.read, lambda: memoryview(buffer), interrupt.take, lambda: program.bytes, card.describe, lambda: buffer.write(b"")):
        try:
            call()
        except xdma.ForkedError as error:
            assert "forked" in str(error)
        else:
            raise AssertionError("a call succeeded in a forked process")
    # The memory is not inherited: views show zeros, and may be written.
    assert bytes(view) == bytes(len(view)) and bytes(other) == bytes(4096)
    view[5] = 1
    for thing in (card, channel, buffer, interrupt, program):
        thing.close()
        repr(thing)
    with xdma.Card.emulate(logic="memory") as own, own.h2c() as h2c:
        h2c.transfer(own.allocate(64, xdma.H2C))
    gc.collect()
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        try:
            child()
            del card, channel, buffer, sink, interrupt, program, ticket
            gc.collect()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, status
stop.set()
for thread in threads: thread.join()
assert bytes(view) == b"x" * len(view)
channel.transfer(buffer)
del view, other
card.close()
print("done")
"""


def test_a_forked_process_is_refused_and_may_open_its_own_card(run: Run) -> None:
    result = run(FORK)
    assert result.stdout == "done\n" and result.returncode == 0, result


def test_multiprocessing_forks(run: Run) -> None:
    result = run(
        """
import multiprocessing, xdma
def work(number):
    with xdma.Card.emulate(logic="memory") as card, card.h2c() as channel:
        channel.transfer(card.allocate(64, xdma.H2C))
    return number
if __name__ == "__main__":
    with xdma.Card.emulate(logic="memory") as card, card.h2c() as channel:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(work, range(4)))
        channel.transfer(card.allocate(64, xdma.H2C))
"""
    )
    assert result.stdout == "[0, 1, 2, 3]\n" and result.returncode == 0, result


def test_the_interpreter_ends_with_transfers_in_flight(run: Run) -> None:
    result = run(
        """
import numpy, xdma
card = xdma.Card.emulate(logic="memory")
channel, buffer = card.h2c(), card.allocate(1 << 24, xdma.H2C)
array = numpy.frombuffer(buffer, "u1")
for _ in range(100): channel.submit(buffer)
class Late:
    def __del__(self):
        try: channel.transfer(buffer)
        except xdma.Error as error: print(type(error).__name__)
late = Late()
"""
    )
    assert result.returncode == 0 and result.stderr == "", result
    assert result.stdout in ("ClosedError\n", ""), result


def test_the_interpreter_ends_while_threads_wait(run: Run) -> None:
    result = run(
        """
import asyncio, threading, time, xdma
card = xdma.Card.emulate(logic="loopback", idle_limit=1)
channel, buffer = card.sender(), card.allocate(1 << 22, xdma.H2C)
interrupt, receiver = card.user_interrupt(0), card.receiver(1)
for call in (lambda: channel.transfer(buffer, timeout=60), lambda: channel.wait(channel.last_ticket, 60),
             lambda: interrupt.wait(60), lambda: receiver.receive(60)):
    threading.Thread(target=call, daemon=True).start()
    time.sleep(0.05)
print("end")
"""
    )
    assert result.stdout == "end\n" and result.returncode == 0 and result.stderr == "", result


def test_an_exception_ends_the_interpreter_as_usual(run: Run) -> None:
    result = run("import xdma\ncard = xdma.Card.emulate()\nraise SystemExit(3)")
    assert result.returncode == 3 and result.stderr == ""


def test_the_demo_says_that_the_card_is_emulated(run: Run) -> None:
    result = run("import runpy; runpy.run_module('xdma.demo', run_name='__main__')")
    assert result.returncode == 0, result
    assert "emulated" in result.stdout and "compared equal" in result.stdout and "MSM" in result.stdout


ROOT = Path(__file__).parents[3]


def test_the_readmes_program_works_word_for_word(run: Run) -> None:
    program = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(program.strip().splitlines()) <= 10
    result = run(program)
    assert result.returncode == 0 and result.stderr == "", result
    assert result.stdout == f"f1 emulated {sum(range(1024))}\n"


def test_every_program_of_this_packages_readme_works(run: Run) -> None:
    programs = (ROOT / "crates/python/README.md").read_text().split("```python\n")[1:]
    assert len(programs) >= 4
    for program in programs:
        result = run(program.split("```")[0])
        assert result.returncode == 0 and result.stderr == "", result


def test_a_program_uses_a_card_by_name(tmp_path: Path) -> None:
    # As in a virtual machine, but with an emulated card.
    f1 = (ROOT / "crates/card-file/cards/f1.toml").read_text()
    (tmp_path / "memory.toml").write_text(f1.replace('design = "msm"', 'design = "memory"'))
    command = [sys.executable, "-X", "faulthandler", str(ROOT / "crates/python/tests/on_card.py"), "memory.toml"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert result.returncode == 0 and result.stdout == "done on memory.toml\n", result


def test_a_signal_handler_forks_during_a_wait(run: Run) -> None:
    result = run(
        """
import os, signal, threading, xdma
card = xdma.Card.emulate(logic="loopback", idle_limit=1)
channel, buffer = card.sender(), card.allocate(1 << 22, xdma.H2C)
interrupt, receiver, ticket = card.user_interrupt(0), card.receiver(1), channel.submit(buffer)
parent, child = os.getpid(), 0
def fork(*_):
    global child
    child = os.fork()
signal.signal(signal.SIGUSR1, fork)
for call in (lambda: channel.wait(ticket, 0.5), lambda: interrupt.wait(0.5), lambda: receiver.receive(0.5), lambda: channel.recover(fork)):
    timer = threading.Timer(0.1, os.kill, (parent, signal.SIGUSR1))
    timer.start()
    try:
        ended = repr(call())
    except xdma.Error as error:
        ended = type(error).__name__
    if os.getpid() != parent:
        os._exit(0 if ended == "ForkedError" else 1)
    timer.join()
    print(ended, os.waitpid(child, 0)[1])
"""
    )
    assert result.stdout == "TimeoutError 0\n0 0\nTimeoutError 0\nHungError 0\n", result


def test_the_function_for_forked_processes_does_nothing_in_others(card: xdma.Card) -> None:
    view = memoryview(card.allocate(64, xdma.H2C))
    view[0] = 7
    xdma._after_fork()
    assert view[0] == 7 and not card.closed
