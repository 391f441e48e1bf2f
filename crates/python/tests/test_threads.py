from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import xdma


def test_threads_share_a_channel(card: xdma.Card) -> None:
    with card.h2c() as h2c, card.c2h() as c2h:

        def work(number: int) -> None:
            source, sink = card.allocate(4096, xdma.H2C), card.allocate(4096, xdma.C2H)
            for value in range(30):
                data = bytes([number * 16 + value % 16]) * 4096
                source.write(data)
                h2c.transfer(source, number << 12, timeout=60)
                c2h.transfer(sink, number << 12, timeout=60)
                assert sink.read() == data

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert h2c.stats.completed == c2h.stats.completed == 240


def test_the_gil_is_released_while_waiting(stuck: tuple[xdma.Card, xdma.Channel, xdma.Buffer]) -> None:
    _, channel, buffer = stuck
    ticket, steps = channel.submit(buffer), 0
    waiter = threading.Thread(target=lambda: pytest.raises(xdma.TimeoutError, channel.wait, ticket, 0.5))
    waiter.start()
    while waiter.is_alive():
        steps += 1
        # Another thread uses the channel meanwhile.
        assert channel.in_flight == 1
    assert steps > 3


def test_closing_ends_the_waits_of_other_threads(stuck: tuple[xdma.Card, xdma.Channel, xdma.Buffer]) -> None:
    card, channel, buffer = stuck
    ends = []

    def wait() -> None:
        with pytest.raises(xdma.ClosedError):
            channel.transfer(buffer, timeout=60)
        ends.append(True)

    waiters = [threading.Thread(target=wait) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    time.sleep(0.2)
    card.close()
    for waiter in waiters:
        waiter.join(5)
    assert ends == [True] * 3


def test_threads_open_and_close_cards() -> None:
    def work(_: int) -> None:
        for _ in range(3):
            with xdma.Card.emulate(logic="memory") as card, card.h2c() as channel:
                channel.transfer(card.allocate(64, xdma.H2C))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_a_signal_handler_uses_an_object_that_a_call_has_locked(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = run(
        """
import signal, threading, time, xdma
card = xdma.Card.emulate()
msm, points, scalars = card.msm(), card.points(bytes(64 << 14)), card.scalars(bytes(32 << 14))
stop = threading.Event()
def check():
    while not stop.is_set():
        points.check()
thread = threading.Thread(target=check, daemon=True)
thread.start()
calls = 0
def handler(*_):
    global calls
    calls += 1
    assert msm.in_flight == 0
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
end = time.monotonic() + 2
while time.monotonic() < end:
    # Waits for `points` while it has locked `msm`.
    msm.prepare(points, scalars)
signal.setitimer(signal.ITIMER_REAL, 0)
stop.set(), thread.join()
print("done" if calls > 3 else calls)
""",
        timeout=40,
    )
    assert result.stdout == "done\n" and result.returncode == 0, result
