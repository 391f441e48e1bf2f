from __future__ import annotations

import gc
import sys
import tracemalloc

import numpy
import pytest

import xdma

TRANSFERS = 100_000


def resident() -> int:
    """Returns the memory that only this process uses, in bytes."""
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(("Private", "Anonymous"))) * 1024


@pytest.mark.unrecorded
def test_transfers_leak_neither_references_nor_memory(card: xdma.Card) -> None:
    source, sink = card.allocate(4096, xdma.H2C), card.allocate(4096, xdma.C2H)
    with card.h2c() as h2c, card.c2h() as c2h:
        data = numpy.arange(512, dtype="<u8")

        def rounds(count: int) -> None:
            for number in range(count):
                data[0] = number
                source.write(data)
                h2c.transfer(source, 0x1000)
                c2h.wait(c2h.submit(sink, 0x1000))
                assert numpy.frombuffer(sink, "<u8")[0] == number
                if number % 100 == 0:
                    # Errors, programs, views and short-lived buffers leak no more than transfers.
                    pytest.raises(xdma.ArgumentError, h2c.transfer, sink)
                    h2c.wait(h2c.run(h2c.program([(source, 0)])))
                    memoryview(card.allocate(64, xdma.H2C)).release()

        rounds(2000)
        gc.collect()
        objects = [card, source, sink, h2c, c2h, xdma.H2C, xdma.C2H, data, xdma.Buffer, xdma.Ticket, None]
        references, blocks, memory = [sys.getrefcount(thing) for thing in objects], sys.getallocatedblocks(), resident()
        # Each round has two transfers.
        rounds(TRANSFERS // 2)
        gc.collect()
        after = [sys.getrefcount(thing) for thing in objects]
        assert all(now - before < 50 for now, before in zip(after, references)), (references, after)
        assert sys.getallocatedblocks() - blocks < 500
        assert resident() - memory < 2 << 20
        assert h2c.stats.completed + c2h.stats.completed >= TRANSFERS
        tracemalloc.start()
        rounds(200)
        before = tracemalloc.take_snapshot()
        rounds(1000)
        growth = sum(max(0, entry.size_diff) for entry in tracemalloc.take_snapshot().compare_to(before, "filename"))
        tracemalloc.stop()
        assert growth < 64 << 10


@pytest.mark.unrecorded
def test_cards_leak_nothing() -> None:
    def rounds(count: int) -> None:
        for _ in range(count):
            with xdma.Card.emulate(logic="memory") as card, card.h2c() as channel:
                channel.transfer(card.allocate(4096, xdma.H2C))

    rounds(10)
    gc.collect()
    blocks, memory = sys.getallocatedblocks(), resident()
    rounds(100)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 500
    # A leak of a card's memory would be at least 64 KiB for each.
    assert resident() - memory < 4 << 20
