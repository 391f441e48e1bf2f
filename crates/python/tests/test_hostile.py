"""Calls everything with odd arguments, in any order, from several threads. Only exceptions may come of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

import xdma

PROGRAM = """
import gc, inspect, itertools, random, signal, sys, threading
import numpy, xdma, xdma._waiting  # An alarm in an import would leave half of a module.

rng = random.Random({seed})

class Alarm(Exception):
    pass

def alarm(*_):
    raise Alarm

signal.signal(signal.SIGALRM, alarm)

def opened():
    while True:
        try:
            return try_opened()
        except xdma.HungError:
            # The engine's thread did not run in time, on a machine that is busy.
            pass

def try_opened():
    memory, streams, msm = xdma.Card.emulate(logic="memory", idle_limit=0.3), xdma.Card.emulate(logic="loopback", idle_limit=0.3), xdma.Card.emulate(idle_limit=0.3)
    h2c, c2h, source, sink = memory.h2c(interrupt=True), memory.c2h(wait="hybrid"), memory.allocate(8192, xdma.H2C), memory.allocate(8192, xdma.C2H)
    client, points, scalars = msm.msm(), msm.points(bytes(640)), msm.scalars(bytes(320))
    job = client.prepare(points, scalars)
    return [memory, streams, msm, h2c, c2h, source, sink, client, points, scalars, job, client.submit(job), h2c.submit(source),
            h2c.program([(source, 0), (source, 64, 64, 64)]), memory.registers, msm.registers, memory.user, memory.user_interrupt(1),
            streams.sender(), streams.receiver(1, max_posted=2), streams.receiver(0), memory.info, h2c.stats, client.design,
            memory.registers["h2c0.status"], memory.register(bytearray(5000), xdma.H2C), xdma.H2C, xdma.Direction]

ODD = [None, True, -1, 0, 1, 3, 64, 100, 2**31, 2**32 - 4, 2**63, 2**64 - 1, 2**64, 10**40, 0.0, 0.01, -0.5, float("nan"), float("inf"), 1e300,
       "", "chain", "hybrid", "memory", "h2c0.control", "msm.label", "\\0", "\\ud800", b"", bytes(32), bytes(640), bytearray(64), memoryview(bytes(64)), [], (), {{}}, [(1, 2)],
       object(), len, Ellipsis, range(3), numpy.zeros(64, "u1"), numpy.zeros((8, 8))[:, 1], numpy.array(5), xdma.C2H]
NAMES = ["address", "offset", "size", "timeout", "number", "slots", "ring", "wait", "count", "idle", "first", "form", "check", "chunk", "buffers", "force", "nothing"]
SKIPPED = {{"open", "emulate"}}
failed = (xdma.Error, TypeError, ValueError, OverflowError, KeyError, AttributeError, NotImplementedError, BufferError, StopIteration, Alarm, IndexError,
          RuntimeWarning, MemoryError, UnicodeError)

def step(things, allowed):
    thing = rng.choice(things)
    names = [name for name in dir(thing) if not name.startswith("_") and name not in SKIPPED]
    names += ["__getitem__", "__setitem__", "__len__", "__next__", "__enter__", "__exit__", "__repr__", "__contains__", "__eq__", "__hash__", "__int__"]
    name = rng.choice(names)
    # Closing is rare, so that there is something to use.
    if name in ("close", "__exit__") and rng.random() < 0.9:
        return
    pick = lambda: rng.choice(things if rng.random() < 0.4 else ODD)
    arguments = [pick() for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5)))]
    keywords = {{rng.choice(NAMES): pick() for _ in range(rng.choice((0, 0, 0, 1, 2)))}}
    try:
        value = getattr(thing, name)
        if callable(value):
            value = value(*arguments, **keywords)
        if inspect.iscoroutine(value):
            value.close()
        elif type(value).__module__ == "xdma":
            things.append(value)
        elif isinstance(thing, xdma.Buffer) and rng.random() < 0.2:
            things.append(memoryview(thing))
    except allowed:
        pass
    if len(things) > 60:
        del things[rng.randrange(len(things))]
    if rng.random() < 0.01:
        gc.collect()

def work(steps, main):
    things, done = opened() if main else shared, 0
    while done < steps:
        done += 1
        try:
            try:
                if main:
                    signal.setitimer(signal.ITIMER_REAL, 0.05)
                step(things, failed)
            finally:
                if main:
                    signal.setitimer(signal.ITIMER_REAL, 0)
        except Alarm:
            pass
        if main and done % 300 == 0:
            things[:] = opened()

shared = [thing for thing in opened() if not isinstance(thing, (xdma.Interrupt, xdma.Receiver))]
threads = [threading.Thread(target=work, args=({steps}, False), daemon=True) for _ in range({threads})]
for thread in threads: thread.start()
work({steps}, True)
print("done")
"""


@pytest.mark.unrecorded
@pytest.mark.parametrize("seed", range(3))
def test_odd_calls_raise_exceptions(run: Callable[..., subprocess.CompletedProcess[str]], seed: int) -> None:
    result = run(PROGRAM.format(seed=seed, steps=1500, threads=0), timeout=100)
    assert result.returncode == 0 and result.stdout == "done\n", result.stderr


@pytest.mark.unrecorded
def test_odd_calls_of_several_threads_raise_exceptions(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = run(PROGRAM.format(seed=7, steps=700, threads=2), timeout=100)
    assert result.returncode == 0 and result.stdout == "done\n", result.stderr


class Closes:
    """A number that closes something when it is used as one."""

    def __init__(self, close: Callable[[], None]) -> None:
        self.close = close

    def __index__(self) -> int:
        self.close()
        return 64


def test_arguments_that_run_code(card: xdma.Card) -> None:
    buffer = card.allocate(4096, xdma.H2C)

    def fails() -> Iterator[tuple[xdma.Buffer, int]]:
        yield buffer, 0
        raise ZeroDivisionError

    def closes() -> Iterator[tuple[xdma.Buffer, int]]:
        other = card.allocate(64, xdma.H2C)
        yield other, 0
        other.close()
        yield buffer, 64

    with card.h2c() as channel:
        for build in (channel.program, channel.submit_list):
            with pytest.raises(ZeroDivisionError):
                build(fails())
        # The list keeps the memory of a buffer that was closed meanwhile.
        channel.wait(channel.submit_list(closes()))
        with pytest.raises(xdma.ClosedError):
            channel.transfer(buffer, Closes(buffer.close))  # type: ignore[arg-type]
        other = card.allocate(4096, xdma.H2C)
        with pytest.raises(xdma.ClosedError):
            channel.submit_list([(other, Closes(card.close))])  # type: ignore[list-item]
    assert card.closed


def test_objects_that_are_resurrected(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = run(
        """
import gc, xdma
kept = []
class Holder:
    def __init__(self):
        self.card = xdma.Card.emulate(logic="memory")
        self.channel, self.buffer = self.card.h2c(), self.card.allocate(4096, xdma.H2C)
        self.view, self.cycle = memoryview(self.buffer), self
    def __del__(self):
        kept.append(self)
for _ in range(3):
    Holder()
    gc.collect()
assert len(kept) == 3
for holder in kept:
    holder.view[0] = 1
    holder.channel.transfer(holder.buffer)
print("done")
"""
    )
    assert result.returncode == 0 and result.stdout == "done\n" and result.stderr == "", result
