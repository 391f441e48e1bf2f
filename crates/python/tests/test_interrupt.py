from __future__ import annotations

import select
import threading

import pytest

import xdma

USER_IRQ = 0xD00
"""The register of the emulated memory logic that drives its interrupt lines."""


def test_a_user_line_fires(card: xdma.Card) -> None:
    with card.user_interrupt(3) as interrupt:
        assert interrupt.wait(0) == 0 and interrupt.take() == 0
        timer = threading.Timer(0.1, raise_line, (card, 3))
        timer.start()
        assert interrupt.wait() == 1
        timer.join()
        raise_line(card, 3)
        assert select.select([interrupt], [], [], 5)[0] == [interrupt]
        assert interrupt.take() == 1
    for call in (interrupt.wait, interrupt.take, interrupt.fileno):
        with pytest.raises(xdma.ClosedError):
            call()
    interrupt.close()


def raise_line(card: xdma.Card, line: int) -> None:
    card.user.write(USER_IRQ, 0)
    card.user.write(USER_IRQ, 1 << line)


def test_a_channel_interrupts(card: xdma.Card) -> None:
    buffer = card.allocate(64, xdma.H2C)
    with card.h2c(interrupt=True) as channel, card.channel_interrupt(xdma.H2C, 0) as interrupt:
        channel.rearm_interrupt()
        ticket = channel.submit(buffer)
        assert select.select([channel], [], [], 5)[0] == [channel]
        channel.wait(ticket)
        assert interrupt.take() >= 1
    with card.h2c(wait="spin") as polling:
        assert polling.fileno() is None
        polling.rearm_interrupt()


def test_misuse_of_interrupts(card: xdma.Card) -> None:
    with pytest.raises(xdma.ArgumentError, match="user lines are 0 to 15"):
        card.user_interrupt(16)
    with pytest.raises(xdma.ArgumentError):
        card.channel_interrupt(xdma.C2H, 4)
    with pytest.raises(OverflowError):
        card.user_interrupt(-1)
    with pytest.raises(TypeError):
        card.channel_interrupt(0)  # type: ignore[arg-type]
    with card.user_interrupt(0) as interrupt:
        for timeout in (-1, float("nan"), 1e300):
            with pytest.raises(xdma.ArgumentError, match="timeout"):
                interrupt.wait(timeout)
