from __future__ import annotations

import asyncio
import gc
import os
import threading
import time

import pytest

import xdma
from xdma import bn254


@pytest.mark.parametrize("wait", ["hybrid", "spin-then-yield"])
def test_transfers_in_a_loop(card: xdma.Card, wait: xdma._xdma._Wait) -> None:
    async def main() -> None:
        data = os.urandom(1 << 20)
        source = card.allocate(len(data), xdma.H2C)
        source.write(data)
        sinks = [card.allocate(1 << 18, xdma.C2H) for _ in range(4)]
        with card.h2c(wait=wait) as h2c, card.c2h(wait=wait) as c2h:
            await h2c.transfer_async(source, 0)
            await asyncio.gather(*(c2h.transfer_async(sink, at << 18) for at, sink in enumerate(sinks)))
            await h2c.wait_async(h2c.submit(source, 4096, size=64))
        assert b"".join(sink.read() for sink in sinks) == data

    asyncio.run(main())


@pytest.mark.parametrize("wait", ["hybrid", "spin-then-yield"])
def test_other_tasks_run_and_time_limits_hold(wait: xdma._xdma._Wait) -> None:
    async def main() -> None:
        with xdma.Card.emulate(logic="loopback", idle_limit=1) as card:
            sender, buffer = card.sender(wait=wait), card.allocate(1 << 20, xdma.H2C)
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            task = asyncio.create_task(tick())
            with pytest.raises(xdma.TimeoutError, match="within 300ms"):
                await sender.wait_async(sender.submit(buffer), 0.3)
            assert ticks > 5
            task.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("wait", ["hybrid", "spin-then-yield"])
def test_a_cancelled_transfer_continues_in_memory_that_is_kept(wait: xdma._xdma._Wait) -> None:
    async def main() -> None:
        with xdma.Card.emulate(logic="loopback") as card, card.sender(wait=wait) as sender:
            buffer = card.allocate(1 << 20, xdma.H2C)
            buffer.write(b"\x07" * len(buffer))
            task = asyncio.create_task(sender.wait_async(sender.submit(buffer)))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sender.in_flight == 1
            del buffer
            gc.collect()
            # Other memory does not take its place.
            for _ in range(10):
                card.allocate(1 << 20, xdma.H2C).write(b"\x09" * (1 << 20))
            with card.receiver(max_posted=32) as receiver:
                receiver.set_max_posted(16)
                packet = await receiver.receive_async()
                assert packet == b"\x07" * (1 << 20)
                receiver.set_max_posted(0)
            assert sender.last_ticket is not None
            await sender.wait_async(sender.last_ticket)

    asyncio.run(main())


def test_streams_are_asynchronous_iterators(streams: xdma.Card) -> None:
    async def main() -> None:
        with streams.sender() as sender, streams.receiver(max_posted=8, timeout=5) as receiver:
            buffer = streams.allocate(100, xdma.H2C)
            for _ in range(3):
                sender.send(buffer)
            count = 0
            async for packet in receiver:
                assert packet == bytes(100)
                count += 1
                if count == 3:
                    break
            with pytest.raises(xdma.TimeoutError):
                await receiver.receive_async(0.05)
            with pytest.raises(xdma.ArgumentError):
                receiver.receive_async(-1)

    asyncio.run(main())


def test_interrupts_wake_tasks(card: xdma.Card) -> None:
    async def main() -> None:
        with card.user_interrupt(1) as interrupt:
            assert await interrupt.wait_async(0.05) == 0
            timer = threading.Timer(0.1, card.user.write, (0xD00, 1 << 1))
            timer.start()
            assert await interrupt.wait_async() == 1
            timer.join()
            with pytest.raises(xdma.ArgumentError):
                interrupt.wait_async(float("nan"))

    asyncio.run(main())


def test_sums_are_awaited(msm_card: xdma.Card) -> None:
    async def main() -> None:
        points, scalars = msm_card.points(bytes(64 * 4)), msm_card.scalars(bytes(32 * 4))
        with msm_card.msm() as msm:
            ticket = msm.submit(msm.prepare(points, scalars))
            assert (await msm.wait_async(ticket)).affine() is None
            with pytest.raises(xdma.Error):
                await msm.wait_async(ticket)
            with pytest.raises(xdma.ArgumentError):
                msm.wait_async(ticket, -1)
            generator = msm_card.points(bn254.points_to_bytes([bn254.GENERATOR] * 4))
            scalars.write(bn254.scalars_to_bytes([1, 2, 3, 4]))
            result = await msm.wait_async(msm.submit(msm.prepare(generator, scalars)))
            assert result.affine() == bn254.multiply(bn254.GENERATOR, 10)

    asyncio.run(main())


def test_misuse_of_coroutines(card: xdma.Card) -> None:
    async def main() -> None:
        buffer = card.allocate(64, xdma.H2C)
        with card.h2c() as channel:
            for call in (
                lambda: channel.transfer_async(buffer, timeout=-1),
                lambda: channel.wait_async(channel.submit(buffer), -1),
            ):
                with pytest.raises(xdma.ArgumentError):
                    call()
            with pytest.raises(xdma.ArgumentError):
                await channel.transfer_async(buffer, offset=65)
            coroutine = channel.transfer_async(buffer)
        with pytest.raises(xdma.ClosedError):
            await coroutine

    asyncio.run(main())


@pytest.mark.parametrize("what", ["interrupt", "receiver", "hybrid", "spin"])
def test_closing_the_card_ends_tasks_that_wait(what: str) -> None:
    async def main() -> None:
        with xdma.Card.emulate(logic="loopback", idle_limit=1) as card:
            if what == "interrupt":
                task: asyncio.Task[object] = asyncio.create_task(card.user_interrupt(1).wait_async(60))
            elif what == "receiver":
                task = asyncio.create_task(card.receiver().receive_async(60))
            else:
                sender = card.sender(wait="hybrid" if what == "hybrid" else "spin")
                task = asyncio.create_task(sender.transfer_async(card.allocate(1 << 22, xdma.H2C), timeout=60))
            await asyncio.sleep(0.1)
        begin = time.monotonic()
        with pytest.raises(xdma.ClosedError):
            await task
        assert time.monotonic() - begin < 5

    asyncio.run(main())
