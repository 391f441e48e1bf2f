from __future__ import annotations

import array
import ctypes
import gc
import mmap

import numpy
import pytest

import xdma


def test_views_show_the_memory_itself(card: xdma.Card) -> None:
    buffer = card.allocate(4096, xdma.H2C)
    array = numpy.frombuffer(buffer, "<u4")
    array[:] = numpy.arange(1024)
    assert buffer.read(4, 8) == (1).to_bytes(4, "little") + (2).to_bytes(4, "little")
    buffer.write(b"\xff" * 4, 4)
    assert array[1] == 0xFFFFFFFF and array.nbytes == len(buffer) == 4096
    assert memoryview(buffer).format == "B" and memoryview(buffer).contiguous
    # Aligned to 64 bytes.
    assert array.ctypes.data % 64 == 0


def test_views_of_memory_that_the_card_writes_are_read_only(card: xdma.Card) -> None:
    buffer = card.allocate(64, xdma.C2H)
    view = memoryview(buffer)
    assert view.readonly and bytes(view) == bytes(64)
    with pytest.raises(TypeError):
        view[0] = 1
    with pytest.raises(ValueError):
        numpy.frombuffer(buffer, "u1")[0] = 1
    with pytest.raises(xdma.ArgumentError, match="only reads it"):
        buffer.write(b"x")


def test_a_buffer_with_views_is_not_closed(card: xdma.Card) -> None:
    buffer = card.allocate(64, xdma.H2C)
    view, other = memoryview(buffer), numpy.frombuffer(buffer, "u1")
    with pytest.raises(BufferError, match="2 views") as caught:
        buffer.close()
    assert isinstance(caught.value, xdma.BufferError) and caught.value.remedy is xdma.Remedy.TRY_AGAIN
    view.release()
    del other
    gc.collect()
    buffer.close()
    buffer.close()
    assert buffer.closed
    for call in (lambda: memoryview(buffer), buffer.read, buffer.sync, lambda: buffer.write(b""), lambda: buffer.in_flight):
        with pytest.raises(xdma.ClosedError):
            call()


def test_views_outlive_the_buffer_and_the_card() -> None:
    with xdma.Card.emulate(logic="memory") as card:
        buffer = card.allocate(8192, xdma.H2C)
        array = numpy.frombuffer(buffer, "u1")
        array[:] = 7
        del buffer
        gc.collect()
    assert card.closed and (array == 7).all()
    array[:] = 9
    part = array[100:200]
    del array
    gc.collect()
    assert (part == 9).all()


def test_read_and_write_check_their_ranges(card: xdma.Card) -> None:
    with card.allocate(100, xdma.H2C) as buffer:
        buffer.write(b"abc", 97)
        assert buffer.read(97) == b"abc" and buffer.read(100) == b"" and buffer.read(0, 0) == b""
        for call in (
            lambda: buffer.write(b"abcd", 97),
            lambda: buffer.write(b"", 101),
            lambda: buffer.read(101),
            lambda: buffer.read(0, 101),
            lambda: buffer.read(1, 2**64 - 1),
        ):
            with pytest.raises(xdma.ArgumentError, match="outside"):
                call()
        for offset in (-1, 2**64):
            with pytest.raises(OverflowError):
                buffer.read(offset)
        with pytest.raises(TypeError):
            buffer.write("text")  # type: ignore[arg-type]
        with pytest.raises(xdma.ArgumentError, match="contiguous"):
            buffer.write(memoryview(b"abcdef")[::2])
        # The source may be a view of the same buffer.
        buffer.write(bytes(range(100)))
        buffer.write(memoryview(buffer)[:50], 10)
        assert buffer.read(10, 50) == bytes(range(50))
    assert buffer.closed


def test_sizes(card: xdma.Card) -> None:
    for size in (1, 63, 4096, 3_000_001):
        buffer = card.allocate(size, xdma.C2H)
        assert len(buffer) == size and buffer.direction == xdma.C2H and not buffer.in_flight and buffer.staged == 0
    with pytest.raises(xdma.ArgumentError):
        card.allocate(0, xdma.H2C)
    with pytest.raises(xdma.Error):
        card.allocate(2**63, xdma.H2C)
    with pytest.raises(OverflowError):
        card.allocate(-1, xdma.H2C)
    with pytest.raises(TypeError):
        card.allocate(64, "H2C")  # type: ignore[arg-type]


def test_a_numpy_array_is_registered(card: xdma.Card) -> None:
    source = numpy.arange(5000, dtype="<u8")
    sink = numpy.zeros(5000, dtype="<u8")
    with card.h2c() as h2c, card.c2h() as c2h:
        with card.register(source, xdma.H2C) as sent, card.register(sink, xdma.C2H) as received:
            assert len(sent) == source.nbytes and sent.staged <= source.nbytes
            with pytest.raises(ValueError):
                source.resize(10)
            source[0] = 99
            sent.sync()
            h2c.transfer(sent, 0x2000)
            c2h.transfer(received, 0x2000)
            received.sync()
            assert (sink == source).all() and sink[0] == 99
            sent.write((5).to_bytes(8, "little"))
            assert source[0] == 5 and sent.read(0, 8) == (5).to_bytes(8, "little")
            with pytest.raises(BufferError, match="registered"):
                memoryview(sent)
        source.resize(10, refcheck=False)
    with card.register(bytes(100), xdma.H2C) as constant:
        with pytest.raises(xdma.ArgumentError, match="read-only"):
            constant.write(b"x")
    with pytest.raises(xdma.ArgumentError, match="read-only"):
        card.register(bytes(100), xdma.C2H)
    with pytest.raises(xdma.ArgumentError):
        card.register(bytearray(), xdma.H2C)
    buffer = card.allocate(8192, xdma.H2C)
    for view in (memoryview(buffer), numpy.frombuffer(buffer, "u1")[100:200]):
        with pytest.raises(xdma.ArgumentError, match="view of a buffer"):
            card.register(view, xdma.H2C)
    with pytest.raises(TypeError):
        card.register(5, xdma.H2C)  # type: ignore[arg-type]


def test_a_buffer_in_flight_is_neither_read_nor_written(
    stuck: tuple[xdma.Card, xdma.Channel, xdma.Buffer],
) -> None:
    card, channel, buffer = stuck
    array = bytearray(1 << 22)
    registered = card.register(array, xdma.H2C)
    channel.submit(buffer)
    channel.submit(registered)
    assert buffer.in_flight and registered.in_flight
    for call in (buffer.read, lambda: buffer.write(b"x"), registered.sync, registered.close):
        with pytest.raises(xdma.BusyError, match="in flight"):
            call()
    # Views stay usable: the card reads old or new bytes.
    memoryview(buffer)[0] = 1
    # Closing a buffer in flight is allowed: the channel keeps the memory.
    ticket = channel.submit(buffer)
    buffer.close()
    with card.receiver(buffers=256) as receiver:
        assert [len(packet) for packet in receiver.packets(3)] == [1 << 22] * 3
        channel.wait(ticket)
        receiver.set_max_posted(0)
        assert not registered.in_flight
        registered.close()
        array.extend(b"x")
        channel.submit(card.allocate(1 << 24, xdma.H2C))
        assert len(receiver.receive()) == 1 << 24


def test_objects_with_references_are_not_registered(card: xdma.Card) -> None:
    # A card that wrote them would make the interpreter crash.
    record = numpy.zeros(10, dtype=[("Object", "u8"), ("o", object)])
    for array in (numpy.array([object()] * 10), record):
        for direction in (xdma.H2C, xdma.C2H):
            with pytest.raises(xdma.ArgumentError, match="references"):
                card.register(array, direction)
    with pytest.raises(xdma.ArgumentError, match="references"):
        card.register((ctypes.py_object * 10)(), xdma.C2H)
    card.register(numpy.zeros(10, dtype=[("Object", "u8"), ("O", "u1")]), xdma.C2H).close()


def test_objects_of_ctypes_and_the_standard_library(card: xdma.Card) -> None:
    sources = [(ctypes.c_uint32 * 1024)(*range(1024)), array.array("I", range(1024)), mmap.mmap(-1, 4096)]
    sources[2][:] = bytes(sources[1])
    with card.h2c() as h2c, card.c2h() as c2h:
        for source in sources:
            sink = (ctypes.c_char * 4096)()
            with card.register(source, xdma.H2C) as sent, card.register(sink, xdma.C2H) as received:
                h2c.transfer(sent)
                c2h.transfer(received)
                received.sync()
            assert bytes(sink) == bytes(sources[1])
            buffer = card.allocate(4096, xdma.H2C)
            buffer.write(source)
            assert buffer.read() == bytes(sink)


@pytest.mark.parametrize("channel_first", [True, False])
def test_objects_in_flight_are_released_with_the_card(channel_first: bool) -> None:
    array = bytearray(1 << 22)
    with xdma.Card.emulate(logic="loopback", idle_limit=1) as card:
        if channel_first:
            channel, buffer = card.sender(), card.register(array, xdma.H2C)
        else:
            buffer, channel = card.register(array, xdma.H2C), card.sender()
        for _ in range(3):
            channel.submit(buffer)
        assert buffer.in_flight
    array.append(1)


def test_an_object_dropped_in_flight_is_released_later(streams: xdma.Card) -> None:
    array = bytearray(1 << 22)
    with streams.sender() as sender:
        ticket = sender.submit(streams.register(array, xdma.H2C))
        gc.collect()
        with pytest.raises(BufferError):
            array.append(1)
        with streams.receiver(max_posted=128) as receiver:
            assert len(receiver.receive()) == len(array)
            receiver.set_max_posted(0)
        sender.wait(ticket)
        streams.register(bytearray(64), xdma.H2C)
        array.append(1)
