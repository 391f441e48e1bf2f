"""A card that disappears in the middle of a wait: every call ends with an exception within its time limit, and closing works."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import xdma


def sockets() -> set[int]:
    """Returns the descriptors of this process that are sockets."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.add(int(name))
        except OSError:
            pass
    return found


def pull(descriptors: set[int]) -> None:
    """Ends the connection to an emulated card, as the death of its process would."""
    for descriptor in descriptors:
        try:
            with socket.socket(fileno=os.dup(descriptor)) as end:
                end.shutdown(socket.SHUT_RDWR)
        except OSError:
            # Closed meanwhile, or not connected.
            pass


@pytest.fixture(params=["memory", "loopback", "msm", "msm-async"])
def pulled(request: pytest.FixtureRequest) -> Iterator[tuple[xdma.Card, str, set[int]]]:
    before = sockets()
    with xdma.Card.emulate(logic=request.param.split("-")[0], idle_limit=1) as card:
        yield card, request.param, sockets() - before


def endless(call: Callable[[], Any]) -> None:
    while True:
        call()


def waits(card: xdma.Card, logic: str) -> list[Callable[[], Any]]:
    """Returns calls that wait for the card."""
    if logic.startswith("msm"):
        msm, points, scalars = card.msm(), card.points(bytes(64 << 12)), card.scalars(b"\1" * (32 << 12))
        job = msm.prepare(points, scalars)
        if logic == "msm-async":
            return [lambda: endless(lambda: asyncio.run(msm.wait_async(msm.submit(job), 30)))]
        return [lambda: endless(lambda: msm.wait(msm.submit(job), 30))]
    if logic == "memory":
        h2c, c2h, source, sink = card.h2c(), card.c2h(), card.allocate(4096, xdma.H2C), card.register(bytearray(9000), xdma.C2H)
        program = h2c.program([(source, 0)])
        return [
            lambda: endless(lambda: h2c.wait(h2c.run(program), 30)),
            lambda: endless(lambda: c2h.transfer(sink, timeout=30)),
            lambda: endless(lambda: card.user.read(0)),
            lambda: endless(lambda: card.registers["h2c0.status"]),
        ]
    polling, sleeping = card.sender(wait="spin-then-yield"), card.sender(1, wait="interrupt")
    receiver, buffer = card.receiver(2), card.allocate(1 << 22, xdma.H2C)
    return [
        lambda: polling.transfer(buffer, timeout=30),
        lambda: sleeping.transfer(buffer, timeout=30),
        lambda: receiver.receive(30),
        lambda: asyncio.run(polling.transfer_async(buffer, timeout=30)),
        lambda: asyncio.run(sleeping.transfer_async(buffer, timeout=30)),
        lambda: asyncio.run(receiver.receive_async(30)),
    ]


def test_every_wait_ends(pulled: tuple[xdma.Card, str, set[int]]) -> None:
    card, logic, descriptors = pulled
    ends: list[BaseException] = []

    def run(call: Callable[[], Any]) -> None:
        try:
            call()
        except BaseException as error:
            ends.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in waits(card, logic)]
    for thread in threads:
        thread.start()
    view = memoryview(card.allocate(4096, xdma.H2C))
    time.sleep(0.2)
    pull(descriptors)
    begin = time.monotonic()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads) and time.monotonic() - begin < 15
    assert len(ends) == len(threads) and all(isinstance(error, xdma.GoneError) for error in ends), ends
    for call in (card.describe, card.recover, lambda: card.user.read(0), lambda: card.h2c(3)):
        with pytest.raises(xdma.GoneError):
            call()
    view[0] = 1
    card.close()
    view[1] = 1
    assert bytes(view[:3]) == b"\1\1\0"
