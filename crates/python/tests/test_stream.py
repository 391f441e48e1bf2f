from __future__ import annotations

import os

import pytest

import xdma


def send(card: xdma.Card, sender: xdma.Sender, data: bytes) -> xdma.Ticket:
    buffer = card.allocate(len(data), xdma.H2C)
    buffer.write(data)
    return sender.send(buffer)


def test_packets_keep_their_boundaries(streams: xdma.Card) -> None:
    packets = [os.urandom(size) for size in (1, 64, 100, 4096, 5000, 20_000)]
    with streams.sender() as sender, streams.receiver(buffers=8, buffer_size=4096) as receiver:
        tickets = [send(streams, sender, packet) for packet in packets]
        assert list(receiver.packets(len(packets))) == packets
        for ticket in tickets:
            sender.wait(ticket)
        assert receiver.poll() is None and receiver.discarded == 0 and receiver.number == 0
        # A packet in two parts.
        buffer = streams.allocate(192, xdma.H2C)
        sender.send(buffer, size=128, ends_packet=False)
        sender.send(buffer, offset=128)
        assert receiver.receive() == bytes(192)
        receiver.set_max_posted(1)
        send(streams, sender, b"last")
        receiver.set_max_posted(0)
        for packet in receiver:
            assert packet == b"last"
            break
    assert receiver.closed and sender.closed and isinstance(sender, xdma.Channel)


def test_an_iterator_ends_when_it_should(streams: xdma.Card) -> None:
    with streams.sender() as sender, streams.receiver(timeout=0.1, max_posted=4) as receiver:
        assert receiver.timeout == 0.1
        for _ in range(3):
            send(streams, sender, b"packet")
        assert list(receiver.packets(idle=0.05)) == [b"packet"] * 3
        assert list(receiver.packets(0)) == []
        with pytest.raises(xdma.TimeoutError):
            next(iter(receiver))
        with pytest.raises(xdma.TimeoutError):
            list(receiver.packets(1))
        with pytest.raises(xdma.ArgumentError):
            receiver.packets(idle=-1)
        # Nothing was lost.
        send(streams, sender, b"later")
        assert receiver.receive(5) == b"later"


def test_a_packet_that_is_too_long_is_discarded(streams: xdma.Card) -> None:
    with streams.sender() as sender, streams.receiver(max_packet=1000, buffer_size=512, max_posted=8) as receiver:
        for size in (1000, 1001, 5000, 10):
            send(streams, sender, bytes(size))
        assert len(receiver.receive()) == 1000
        for _ in range(2):
            with pytest.raises(xdma.ArgumentError, match="max_packet"):
                receiver.receive()
        assert len(receiver.receive()) == 10


def test_old_data_is_discarded(streams: xdma.Card) -> None:
    with streams.sender() as sender:
        sender.wait(send(streams, sender, b"old" * 10))
        with streams.receiver(discard_quiet=0.05, max_posted=1) as receiver:
            assert receiver.discarded == 30
            send(streams, sender, b"new")
            assert receiver.receive() == b"new"


def test_a_receiver_is_stopped_and_recovered(streams: xdma.Card) -> None:
    with streams.sender() as sender, streams.receiver(max_posted=2) as receiver:
        receiver.stop()
        with pytest.raises(xdma.EngineError):
            receiver.receive(1)
        receiver.recover()
        send(streams, sender, b"again")
        assert receiver.receive() == b"again"


def test_misuse_of_streams(streams: xdma.Card, card: xdma.Card) -> None:
    for call in (lambda: card.sender(), lambda: card.receiver(), lambda: streams.h2c(), lambda: streams.c2h()):
        with pytest.raises(xdma.UnsupportedError) as caught:
            call()
        assert caught.value.remedy is xdma.Remedy.UNSUPPORTED
    for arguments in ({"buffers": 0}, {"buffers": 1000}, {"buffer_size": 65}, {"timeout": -1}, {"discard_quiet": -1}):
        with pytest.raises(xdma.ArgumentError):
            streams.receiver(**arguments)  # type: ignore[arg-type]
    with streams.sender() as sender, streams.receiver(max_posted=0, timeout=1) as receiver:
        with pytest.raises(xdma.ArgumentError, match="no buffer"):
            receiver.receive()
        with pytest.raises(OverflowError):
            receiver.set_max_posted(-1)
        with pytest.raises(xdma.ArgumentError):
            sender.send(card.allocate(64, xdma.H2C))
        with pytest.raises(xdma.ArgumentError):
            sender.send(streams.allocate(64, xdma.C2H))
        with pytest.raises(xdma.BusyError):
            streams.receiver()
    for call in (
        receiver.receive,
        receiver.poll,
        receiver.stop,
        receiver.recover,
        lambda: receiver.set_max_posted(1),
        lambda: next(receiver),
        lambda: receiver.discarded,
        lambda: sender.send(streams.allocate(64, xdma.H2C)),
    ):
        with pytest.raises(xdma.ClosedError):
            call()
    receiver.close()
    with pytest.raises(xdma.HungError):
        with streams.sender() as sender:
            # Longer than the card's FIFO.
            ticket = sender.send(streams.allocate(1 << 20, xdma.H2C))
            with pytest.raises(xdma.TimeoutError):
                sender.wait(ticket, 0.5)


def test_a_receiver_that_waits_for_data_closes(streams: xdma.Card) -> None:
    receiver = streams.receiver()
    try:
        receiver.close()
    except xdma.HungError as error:
        assert error.remedy is xdma.Remedy.RESET
    assert receiver.closed
