"""Uses a card that is named, without any package but xdma and numpy: ``python3 on_card.py NAME``.

The card's logic must store what is written, as that of ``xdma emulate --logic memory`` does. The tests run this on an emulated card, and in
virtual machines on a PCI function that is bound to vfio-pci.
"""

import asyncio
import os
import signal
import sys
import threading

import numpy

import xdma


def check(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"failed: {what}")


def refused(error: type[BaseException], call: object, *arguments: object) -> None:
    try:
        call(*arguments)  # type: ignore[operator]
    except error:
        return
    raise SystemExit(f"failed: {call} did not raise {error.__name__}")


def transfers(card: xdma.Card) -> None:
    numbers = numpy.arange(1 << 18, dtype="<u8") * 0x9E3779B97F4A7C15
    source, sink = card.allocate(numbers.nbytes, xdma.H2C), card.allocate(numbers.nbytes, xdma.C2H)
    numpy.frombuffer(source, "<u8")[:] = numbers
    for wait in ("spin-then-yield", "hybrid", "interrupt"):
        with card.h2c(wait=wait) as h2c, card.c2h(wait=wait) as c2h:
            h2c.transfer(source, 0x1003)
            c2h.transfer(sink, 0x1003)
            check((numpy.frombuffer(sink, "<u8") == numbers).all(), f"the bytes came back, with wait={wait}")
            refused(xdma.ArgumentError, h2c.transfer, sink)
            program = h2c.program((source, at << 12, at << 6, 64) for at in range(64))
            for _ in range(100):
                h2c.wait(h2c.run(program))
    # A numpy array as it is, pinned if the bus can.
    with card.register(numbers, xdma.H2C) as registered, card.h2c() as h2c, card.c2h() as c2h:
        check(not card.info.registers_in_place or registered.staged < 2 * 4096, "whole pages are used in place")
        numbers[::512] = 7
        registered.sync()
        h2c.transfer(registered, 0)
        c2h.transfer(sink, 0)
        check((numpy.frombuffer(sink, "<u8") == numbers).all(), "a registered array is moved")


async def loop(card: xdma.Card) -> None:
    source, sink = card.allocate(1 << 20, xdma.H2C), card.allocate(1 << 20, xdma.C2H)
    data = os.urandom(1 << 20)
    source.write(data)
    for interrupt in (False, card.info.interrupts):
        wait = "hybrid" if interrupt else "spin-then-yield"
        with card.h2c(wait=wait) as h2c, card.c2h(wait=wait) as c2h:
            check((h2c.fileno() is None) != interrupt, "channels have a descriptor if they interrupt")
            await h2c.transfer_async(source, 64)
            await asyncio.gather(*(c2h.transfer_async(sink, 64 + at, offset=at, size=1 << 18) for at in range(0, 1 << 20, 1 << 18)))
            check(sink.read() == data, "tasks move bytes")


def interrupts(card: xdma.Card) -> None:
    if not card.info.interrupts:
        return refused(xdma.UnsupportedError, card.user_interrupt, 0)
    with card.user_interrupt(3) as interrupt:
        # This register of the logic drives its lines.
        card.user.write(0xD00, 0)
        interrupt.take()
        card.user.write(0xD00, 1 << 3)
        check(interrupt.wait(10) >= 1, "the user logic interrupts")
        card.user.write(0xD00, 0)
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        refused(KeyboardInterrupt, interrupt.wait, 30)
        timer.join()


def children(card: xdma.Card) -> None:
    buffer = card.allocate(4096, xdma.H2C)
    view = memoryview(buffer)
    view[0] = 1
    child = os.fork()
    if child == 0:
        try:
            refused(xdma.ForkedError, card.allocate, 64, xdma.H2C)
            check(bytes(view) == bytes(4096), "views are zero in a forked process")
        except BaseException as error:
            print(error, flush=True)
            os._exit(1)
        os._exit(0)
    check(os.waitpid(child, 0)[1] == 0, "a forked process leaves the card alone")
    check(view[0] == 1, "the parent's memory is unchanged")


def registered_in_flight(card: xdma.Card) -> None:
    array = bytearray(1 << 20)
    with card.h2c() as h2c:
        # Nothing but the transfer keeps the buffer.
        h2c.submit(card.register(array, xdma.H2C))
        h2c.settle()
        check((h2c.latency(1) or 0) > 0, "latencies are sampled")
        card.register(bytearray(4096), xdma.H2C).close()
        array.append(1)
        h2c.submit(card.register(array, xdma.H2C))
        h2c.stop()
        h2c.recover(lambda: None)
        h2c.transfer(card.allocate(64, xdma.H2C))


def forks_in_a_wait(card: xdma.Card) -> None:
    if not card.info.interrupts:
        return
    parent, child = os.getpid(), 0

    def fork(*_: object) -> None:
        nonlocal child
        child = os.fork()

    signal.signal(signal.SIGUSR1, fork)
    with card.user_interrupt(2) as interrupt:
        timer = threading.Timer(0.1, os.kill, (parent, signal.SIGUSR1))
        timer.start()
        try:
            interrupt.wait(1)
        except xdma.ForkedError:
            os._exit(0)
        check(os.getpid() == parent, "a wait ends in a forked process")
        timer.join()
    check(os.waitpid(child, 0)[1] == 0, "a process forked in a wait leaves the card alone")


def main() -> None:
    # Twice, since closing leaves the card usable.
    for _ in range(2):
        with xdma.Card.open(sys.argv[1]) as card:
            registers = card.registers
            check(registers["h2c0.identifier"].magic == 0x1FC, "the core's registers have names")
            check("XDMA" in card.describe() and card.info.h2c_channels[0] == 0, "the card is described")
            transfers(card)
            asyncio.run(loop(card))
            interrupts(card)
            children(card)
            registered_in_flight(card)
            forks_in_a_wait(card)
        check(card.closed, "the card is closed")
    print(f"done on {sys.argv[1]}")


if __name__ == "__main__":
    main()
