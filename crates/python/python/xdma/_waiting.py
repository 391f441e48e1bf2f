"""Waiting in an event loop, and the iterator over packets."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from typing import TypeVar

from ._errors import TimeoutError
from ._xdma import Buffer, Channel, Interrupt, JobTicket, Msm, MsmResult, Receiver, Ticket

T = TypeVar("T")

SHORTEST_PAUSE = 50e-6
LONGEST_PAUSE = 1e-3
LONGEST_SLEEP = 0.01
"""The longest delay, in seconds, after a lost interrupt or after the object was closed."""


class Pauses:
    """Pauses between polls: at first none, then longer and longer ones of up to a millisecond."""

    def __init__(self, limit: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + limit
        self._pause = 0.0
        self._next_check = self._clock()

    @property
    def left(self) -> float:
        """The time until the limit in seconds, 0 or less after it."""
        return self._end - self._clock()

    def is_check_due(self) -> bool:
        """Returns whether to read the status register, which costs more than a poll."""
        due = self._clock() >= self._next_check
        if due:
            self._next_check = self._clock() + LONGEST_SLEEP
        return due

    async def pause(self) -> None:
        await asyncio.sleep(max(0.0, min(self._pause, self.left)))
        self._pause = min(max(self._pause * 2, SHORTEST_PAUSE), LONGEST_PAUSE)


async def readable(descriptor: int, limit: float) -> None:
    """Waits until a descriptor is readable, for at most limit seconds."""
    loop = asyncio.get_running_loop()
    # A loop has only one callback for each descriptor, but several tasks may wait for it.
    try:
        own = os.dup(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        # Another thread has just closed the object; the caller notices in its next call.
        return
    event = asyncio.Event()
    loop.add_reader(own, event.set)
    try:
        await asyncio.wait_for(event.wait(), limit)
    except asyncio.TimeoutError:
        pass
    finally:
        loop.remove_reader(own)
        os.close(own)


async def wait(channel: Channel, ticket: Ticket, timeout: float) -> None:
    if channel.poll(ticket):
        return
    pauses = Pauses(timeout)
    descriptor = channel.fileno()
    while True:
        if descriptor is not None:
            channel.rearm_interrupt()
        if channel.poll(ticket):
            return
        if pauses.left <= 0:
            channel._expire(timeout)
        if descriptor is None:
            await pauses.pause()
        else:
            await readable(descriptor, max(0.0, min(pauses.left, LONGEST_SLEEP)))
        channel.check()


async def transfer(channel: Channel, buffer: Buffer, address: int, offset: int, size: int | None, timeout: float) -> None:
    await wait(channel, channel.submit(buffer, address, offset=offset, size=size), timeout)


async def interrupt(interrupt: Interrupt, timeout: float) -> int:
    pauses = Pauses(timeout)
    while True:
        fired = interrupt.take()
        if fired or pauses.left <= 0:
            return fired
        await readable(interrupt.fileno(), min(pauses.left, LONGEST_SLEEP))


async def receive(receiver: Receiver, timeout: float) -> bytes:
    pauses = Pauses(timeout)
    while (packet := receiver.poll()) is None:
        if pauses.is_check_due():
            receiver._check()
        if pauses.left <= 0:
            receiver._expire(timeout)
        await pauses.pause()
    return packet


async def result(msm: Msm, ticket: JobTicket, timeout: float) -> MsmResult:
    pauses = Pauses(timeout)
    while (found := msm.poll(ticket)) is None:
        if pauses.is_check_due():
            msm._check()
        if pauses.left <= 0:
            return msm._expire(ticket, timeout)
        await pauses.pause()
    return found


def packets(receiver: Receiver, count: int | None, idle: float | None) -> Iterator[bytes]:
    left = count
    while left is None or left > 0:
        try:
            packet = receiver.receive(idle)
        except TimeoutError:
            if idle is None:
                raise
            return
        yield packet
        if left is not None:
            left -= 1
