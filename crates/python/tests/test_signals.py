"""Ctrl-C ends every wait within a fraction of a second, and everything stays usable."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import xdma


def interrupted(call: Callable[[], Any]) -> float:
    """Calls a function that waits, sends SIGINT, and returns how long the function took to end after that."""
    sent = []

    def send() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.2, send)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        call()
    took = time.monotonic() - sent[0]
    timer.join()
    return took


def test_waits_end(stuck: tuple[xdma.Card, xdma.Channel, xdma.Buffer]) -> None:
    card, channel, buffer = stuck
    ticket = channel.submit(buffer)
    interrupt = card.user_interrupt(0)
    sleeping = card.sender(1, wait="interrupt")
    with card.receiver(2, wait="hybrid") as hybrid, card.receiver(3, timeout=30) as receiver:
        for call in (
            lambda: channel.wait(ticket, 30),
            lambda: channel.transfer(buffer, timeout=30),
            lambda: sleeping.transfer(buffer, timeout=30),
            lambda: interrupt.wait(30),
            lambda: hybrid.receive(30),
            lambda: next(receiver),
        ):
            # The limit leaves room for a busy machine.
            assert interrupted(call) < 1
        hybrid.set_max_posted(0), receiver.set_max_posted(0)
    # All of it is still in flight, and finishes.
    with card.receiver(max_posted=128) as last:
        for _ in range(2):
            assert len(last.receive()) == len(buffer)
        channel.wait(ticket)


def test_a_wait_for_a_sum_ends(msm_card: xdma.Card) -> None:
    count = 1 << 16
    with msm_card.msm() as msm:
        points, scalars = msm_card.points(bytes(64 * count)), msm_card.scalars(b"\x01" * 32 * count)
        job = msm.prepare(points, scalars)
        tickets = [msm.submit(job) for _ in range(2)]

        def wait() -> None:
            msm.wait(tickets[-1], 60)
            # It was too quick to be interrupted.
            time.sleep(5)

        interrupted(wait)
        msm.recover()
        assert msm.compute(bytes(64), bytes(32)).affine() is None


def test_a_handler_that_returns_does_not_end_a_wait(stuck: tuple[xdma.Card, xdma.Channel, xdma.Buffer]) -> None:
    _, channel, buffer = stuck
    handled = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: handled.append(channel.in_flight))
    try:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(xdma.TimeoutError):
            channel.transfer(buffer, timeout=0.5)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    # The handler used the same channel.
    assert handled == [1]


def test_a_handler_may_close_what_is_waited_for(stuck: tuple[xdma.Card, xdma.Channel, xdma.Buffer]) -> None:
    card, channel, buffer = stuck
    previous = signal.signal(signal.SIGUSR1, lambda *_: card.close())
    try:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(xdma.ClosedError):
            channel.transfer(buffer, timeout=30)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
