"""Tests the package on emulated cards: ``python -m xdma.demo``.

Transfers bytes to the card and back, sends packets, runs a multi-scalar multiplication, and compares each result with the expected one.
"""

from __future__ import annotations

import os
import random
import sys

import xdma
from xdma import bn254

SIZE = 1 << 20
PAIRS = 64


def transfers() -> str:
    with xdma.Card.emulate(logic="memory") as card, card.h2c() as h2c, card.c2h() as c2h:
        data = os.urandom(SIZE)
        source, sink = card.allocate(SIZE, xdma.H2C), card.allocate(SIZE, xdma.C2H)
        source.write(data)
        h2c.transfer(source, 0x1000)
        c2h.transfer(sink, 0x1000)
        if memoryview(sink) != data:
            raise SystemExit("failed: the bytes that came back differ from those that were sent")
    return f"transfers: {SIZE} random bytes to card address 0x1000 and back; all compared equal"


def streams() -> str:
    packets = [os.urandom(length) for length in (1, 4096, 100_000)]
    with xdma.Card.emulate(logic="loopback") as card, card.sender() as sender:
        with card.receiver(max_posted=len(packets) + 1) as receiver:
            receiver.set_max_posted(0)
            for packet in packets:
                buffer = card.allocate(len(packet), xdma.H2C)
                buffer.write(packet)
                sender.send(buffer)
            if list(receiver.packets(len(packets))) != packets:
                raise SystemExit("failed: the packets that came back differ from those that were sent")
    return f"streams: {len(packets)} packets of up to {max(map(len, packets))} bytes and back; all compared equal"


def msm() -> str:
    points, point = [], bn254.GENERATOR
    for _ in range(PAIRS):
        points.append(point)
        point = bn254.add(point, bn254.GENERATOR)
    scalars = [random.randrange(bn254.R) for _ in points]
    with xdma.Card.emulate(logic="msm") as card, card.msm() as client:
        result = client.compute(bn254.points_to_bytes(points), bn254.scalars_to_bytes(scalars), timeout=60)
    # The points are the generator's multiples 1, 2, 3...
    factor = sum(index * scalar for index, scalar in enumerate(scalars, 1))
    if result.affine() != bn254.multiply(bn254.GENERATOR, factor):
        raise SystemExit("failed: the sum differs from the one computed in Python")
    return f"MSM: {PAIRS} pairs with random scalars; the sum equals the one computed in Python"


def main() -> None:
    if len(sys.argv) > 1:
        raise SystemExit("usage: python -m xdma.demo (without arguments)")
    print(f"xdma {xdma.__version__} on emulated cards, which are software in this process. Nothing here ran on a real card.")
    for part in (transfers, streams, msm):
        print(part())


if __name__ == "__main__":
    main()
