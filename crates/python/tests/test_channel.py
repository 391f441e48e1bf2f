from __future__ import annotations

import os
import time

import pytest

import xdma

Stuck = tuple[xdma.Card, xdma.Channel, xdma.Buffer]


def test_bytes_reach_the_card_and_come_back(card: xdma.Card) -> None:
    data = os.urandom(100_000)
    with card.h2c(1) as h2c, card.c2h(2) as c2h:
        source, sink = card.allocate(len(data), xdma.H2C), card.allocate(len(data), xdma.C2H)
        source.write(data)
        h2c.transfer(source, 0x1003)
        c2h.transfer(sink, 0x1003, timeout=10)
        assert sink.read() == data
        ticket = c2h.submit(sink, 0x1004, offset=10, size=100)
        c2h.wait(ticket)
        assert c2h.poll(ticket) and sink.read(10, 100) == data[1:101] and c2h.last_ticket == ticket
        assert (h2c.direction, h2c.number, c2h.direction, c2h.number) == (xdma.H2C, 1, xdma.C2H, 2)
        assert h2c.stats.bytes == len(data) and h2c.stats.completed == 1 and h2c.in_flight == 0
        assert "H2C" in h2c.describe() and "channel" in h2c.describe().lower()
        h2c.check()
    assert h2c.closed and c2h.closed


@pytest.mark.parametrize("ring", ["chain", "credits"])
@pytest.mark.parametrize("wait", ["spin-then-yield", "spin", "hybrid", "interrupt"])
def test_every_ring_and_wait(card: xdma.Card, ring: xdma._xdma._Ring, wait: xdma._xdma._Wait) -> None:
    buffer = card.allocate(1 << 20, xdma.H2C)
    with card.h2c(ring=ring, wait=wait, slots=8, check_idle=False) as channel:
        assert channel.ring == ring
        for _ in range(20):
            channel.transfer(buffer, 0)


def test_several_transfers_are_one(card: xdma.Card) -> None:
    a, b, sink = card.allocate(64, xdma.H2C), card.allocate(64, xdma.H2C), card.allocate(128, xdma.C2H)
    a.write(b"a" * 64), b.write(b"b" * 64)
    with card.h2c() as h2c, card.c2h() as c2h:
        h2c.wait(h2c.submit_list([(a, 0), (b, 64, 0), (a, 128, 32, 16), (b, 144, 0, None)]))
        c2h.transfer(sink, 0)
        assert sink.read() == b"a" * 64 + b"b" * 64
        h2c.wait(h2c.submit_list((a, at) for at in range(0, 640, 64)))
        for bad in ([], [(a,)], [(a, 0, 0, 64, 1)], [(a, 0, 60, 5)], [(sink, 0)], [(a, 2**64 - 1)]):
            with pytest.raises((xdma.ArgumentError, OverflowError)):
                h2c.submit_list(bad)  # type: ignore[arg-type]
        for wrong in (None, 5, [[a, 0]], [(5, 0)], [(a, "0")], [(a, 0, None)]):
            with pytest.raises(TypeError):
                h2c.submit_list(wrong)  # type: ignore[arg-type]


def test_a_program_runs_again_and_again(card: xdma.Card) -> None:
    source, sink = card.allocate(4096, xdma.H2C), card.allocate(4096, xdma.C2H)
    with card.h2c() as h2c, card.c2h() as c2h:
        segments = [(source, 0x100 * at, 64 * at, 64) for at in range(64)]
        with h2c.program(segments) as program:
            assert program.descriptors == 64 and program.bytes == 4096 and not program.closed
            for value in range(5):
                source.write(bytes([value]) * 4096)
                h2c.wait(h2c.run(program))
                c2h.transfer(sink, 0x100, size=64)
                assert sink.read(0, 64) == bytes([value]) * 64
            # The program keeps the memory.
            source.close()
            h2c.wait(h2c.run(program))
            with pytest.raises(xdma.ArgumentError):
                c2h.run(program)
        for call in (lambda: h2c.run(program), lambda: program.bytes):
            with pytest.raises(xdma.ClosedError):
                call()
        program.close()
        with pytest.raises(xdma.ArgumentError):
            h2c.program([])
        with pytest.raises(xdma.ClosedError):
            h2c.program(segments)
        with pytest.raises(TypeError):
            h2c.program(segments[0])  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            h2c.run(None)  # type: ignore[arg-type]


def test_misuse_of_transfers(card: xdma.Card) -> None:
    source, sink = card.allocate(64, xdma.H2C), card.allocate(64, xdma.C2H)
    with card.h2c() as h2c, card.c2h() as c2h, xdma.Card.emulate(logic="memory") as other:
        foreign = other.allocate(64, xdma.H2C)
        for call in (
            lambda: h2c.transfer(sink),
            lambda: c2h.submit(source),
            lambda: h2c.transfer(foreign),
            lambda: h2c.transfer(source, offset=65),
            lambda: h2c.transfer(source, offset=64),
            lambda: h2c.submit(source, size=0),
            lambda: h2c.submit(source, size=2**64 - 1),
            lambda: h2c.transfer(source, 2**64 - 1),
            lambda: h2c.transfer(source, timeout=-1),
            lambda: h2c.transfer(source, timeout=float("nan")),
            lambda: h2c.transfer(source, timeout=float("inf")),
            lambda: c2h.wait(h2c.submit(source)),
            lambda: c2h.poll(h2c.submit(source)),
            lambda: card.h2c(4),
            lambda: card.h2c(2**64 - 1),
            lambda: card.h2c(ring="round"),  # type: ignore[arg-type]
            lambda: card.c2h(wait="sleep"),  # type: ignore[arg-type]
        ):
            with pytest.raises(xdma.ArgumentError) as caught:
                call()
            assert isinstance(caught.value, ValueError) and caught.value.remedy is xdma.Remedy.CORRECT
            assert caught.value.cause == str(caught.value) and caught.value.advice
        for call in (
            lambda: h2c.transfer(source, -1),
            lambda: h2c.submit(source, offset=-1),
            lambda: h2c.submit(source, 2**64),
            lambda: card.h2c(-1),
            lambda: card.c2h(-1),
        ):
            with pytest.raises(OverflowError):
                call()
        for wrong in (None, b"bytes", bytearray(64), memoryview(source), h2c):
            with pytest.raises(TypeError):
                h2c.transfer(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            h2c.wait(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            xdma.Channel()
        with pytest.raises(xdma.BusyError, match="already open"):
            card.h2c()
        with pytest.raises(xdma.UnsupportedError):
            card.sender(1)


def test_a_closed_channel_is_an_error(card: xdma.Card) -> None:
    buffer, channel = card.allocate(64, xdma.H2C), card.h2c(interrupt=True)
    ticket, program = channel.submit(buffer), channel.program([(buffer, 0)])
    channel.close()
    channel.close()
    for call in (
        lambda: channel.transfer(buffer),
        lambda: channel.submit(buffer),
        lambda: channel.submit_list([(buffer, 0)]),
        lambda: channel.program([(buffer, 0)]),
        lambda: channel.run(program),
        lambda: channel.poll(ticket),
        lambda: channel.wait(ticket),
        channel.check,
        channel.stop,
        channel.recover,
        channel.describe,
        channel.fileno,
        channel.rearm_interrupt,
        lambda: channel.stats,
        lambda: channel.ring,
        lambda: channel.in_flight,
        lambda: channel.last_ticket,
    ):
        with pytest.raises(xdma.ClosedError, match="closed"):
            call()
    with card.h2c() as again:
        again.transfer(buffer)


def test_a_wait_has_a_time_limit(stuck: Stuck) -> None:
    card, channel, buffer = stuck
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="not finished within 200ms") as caught:
        channel.transfer(buffer, timeout=0.2)
    assert isinstance(caught.value, xdma.TimeoutError) and 0.2 <= time.monotonic() - begin < 2
    assert caught.value.remedy is xdma.Remedy.WAIT_AGAIN and channel.in_flight == 1
    ticket = channel.last_ticket
    assert ticket is not None and not channel.poll(ticket)
    with pytest.raises(xdma.TimeoutError):
        channel.wait(ticket, 0)
    # The slices of a wait are not counted as timeouts.
    assert channel.stats.timeouts == 2
    # The work is still in flight, and finishes once the stream accepts it.
    with card.receiver(max_posted=64) as receiver:
        assert len(receiver.receive()) == len(buffer)
        channel.wait(ticket)
        assert channel.poll(ticket) and channel.in_flight == 0


def test_work_is_lost_when_the_card_is_recovered(card: xdma.Card) -> None:
    buffer = card.allocate(64, xdma.H2C)
    with card.h2c() as channel:
        card.recover()
        for call in (lambda: channel.transfer(buffer), lambda: channel.submit(buffer), channel.check):
            with pytest.raises(xdma.EngineError, match="reset") as lost:
                call()
        assert lost.value.remedy is xdma.Remedy.RECOVER
        channel.recover()
        channel.transfer(buffer)
        channel.stop()
        channel.transfer(buffer)
        assert channel.stats.recoveries == 1


def test_a_full_ring_is_busy(stuck: Stuck) -> None:
    card, _, _ = stuck
    buffer = card.allocate(1 << 20, xdma.H2C)
    channel = card.sender(1, slots=2)
    with pytest.raises(xdma.BusyError) as caught:
        for _ in range(1000):
            channel.submit(buffer)
    assert caught.value.remedy is xdma.Remedy.TRY_AGAIN


def test_an_engine_that_hangs_keeps_its_memory(stuck: Stuck) -> None:
    card, channel, buffer = stuck
    # The engine stops between descriptors, so it must be inside of one.
    with pytest.raises(xdma.TimeoutError):
        channel.transfer(buffer, timeout=0.5)
    with pytest.raises(xdma.HungError, match="does not become idle") as hung:
        channel.stop()
    assert hung.value.remedy is xdma.Remedy.RESET and buffer.in_flight
    with pytest.raises(xdma.HungError):
        channel.recover()
    with pytest.raises(xdma.HungError):
        channel.close()
    assert channel.closed and card.quarantined_bytes >= len(buffer)
    with pytest.raises(xdma.ArgumentError, match="may still access"):
        buffer.read()


def test_work_settles(card: xdma.Card, stuck: Stuck) -> None:
    buffer = card.allocate(1 << 20, xdma.H2C)
    with card.h2c() as channel:
        channel.settle()
        for _ in range(5):
            channel.submit(buffer)
        channel.settle()
        assert channel.in_flight == 0
        with pytest.raises(xdma.ArgumentError):
            channel.settle(-1)
    with pytest.raises(xdma.ClosedError):
        channel.settle()
    _, sender, large = stuck
    sender.submit(large)
    with pytest.raises(xdma.TimeoutError, match="200ms"):
        sender.settle(0.2)


def test_latencies_are_sampled(card: xdma.Card) -> None:
    buffer = card.allocate(64, xdma.H2C)
    with card.h2c() as channel:
        assert channel.latency(0.5) is None
        for _ in range(200):
            channel.transfer(buffer)
        median, last = channel.latency(0.5), channel.latency(1)
        assert median is not None and last is not None and 0 < median <= last < 5
        for share in (-0.1, 1.1, float("nan")):
            with pytest.raises(xdma.ArgumentError, match="share"):
                channel.latency(share)


def test_a_recovery_with_help(stuck: Stuck) -> None:
    card, channel, buffer = stuck
    channel.submit(buffer)
    time.sleep(0.1)
    receivers = []

    def drain() -> None:
        """Accepts the data for which the engine waits."""
        if receivers:
            return
        for call in (channel.recover, channel.check, channel.stop, channel.close, lambda: channel.in_flight):
            with pytest.raises(xdma.BusyError, match="in use by the call"):
                call()
        receivers.append(card.receiver(max_posted=64))

    with pytest.raises(xdma.HungError):
        channel.recover()
    channel.recover(drain)
    with receivers[0] as receiver:
        ticket = channel.submit(buffer, size=64)
        assert len(list(receiver.packets(idle=0.5))) >= 1
        channel.wait(ticket)
        receiver.recover(lambda: None)
        receiver.set_max_posted(0)


def test_help_that_raises_or_closes(stuck: Stuck) -> None:
    card, channel, buffer = stuck
    channel.submit(buffer)
    time.sleep(0.1)
    with pytest.raises(ZeroDivisionError):
        channel.recover(lambda: 1 / 0)
    with pytest.raises(TypeError):
        channel.recover(5)  # type: ignore[arg-type]
    with pytest.raises(xdma.HungError):
        channel.recover(card.close)
    assert card.closed
