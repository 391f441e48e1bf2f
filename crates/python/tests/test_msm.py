from __future__ import annotations

import random

import pytest

import xdma
from xdma import bn254


def multiples(count: int) -> list[bn254.Point]:
    points, point = [], bn254.GENERATOR
    for _ in range(count):
        points.append(point)
        point = bn254.add(point, bn254.GENERATOR)
    return points


def test_a_sum_of_bytes(msm_card: xdma.Card) -> None:
    scalars = [random.randrange(bn254.R) for _ in range(33)]
    points = bn254.points_to_bytes(multiples(33))
    expected = bn254.multiply(bn254.GENERATOR, sum(at * scalar for at, scalar in enumerate(scalars, 1)))
    with msm_card.msm() as msm:
        result = msm.compute(points, bn254.scalars_to_bytes(scalars), check=True, timeout=60)
        assert result.affine() == expected and len(result.bytes) == 96 and result.label == 0
        montgomery = bn254.scalars_to_bytes(scalar * 2**256 % bn254.R for scalar in scalars)
        assert msm.compute(memoryview(points), bytearray(montgomery), form="montgomery").affine() == expected
        # Both sum to infinity.
        assert msm.compute(points[:128], bn254.scalars_to_bytes([2, bn254.R - 1])).affine() is None
        assert msm.compute(b"", b"").affine() is None


def test_jobs_are_prepared_once(msm_card: xdma.Card) -> None:
    points = msm_card.points(bn254.points_to_bytes(multiples(8)))
    scalars = msm_card.scalars(bytes(32 * 8))
    points.check(), scalars.check()
    assert len(points) == len(scalars) == 8
    with msm_card.msm(chunk=2, wait="hybrid") as msm:
        design = msm.design
        assert design.max_pairs > 8 and design.chunk == 2 and not design.stub
        job, part = msm.prepare(points, scalars), msm.prepare(points, scalars, first_point=2, first_scalar=1, count=2)
        assert (job.pairs, part.pairs) == (8, 2)
        for first in range(3):
            scalars.write(bn254.scalars_to_bytes(range(first, first + 8)))
            ticket = msm.submit(job)
            result = msm.wait(ticket)
            expected = sum((at + 1) * (first + at) for at in range(8))
            assert result.affine() == bn254.multiply(bn254.GENERATOR, expected) and result.label == first
            assert msm.poll_accepted(ticket)
        scalars.write(bn254.scalars_to_bytes([10]), 2)
        ticket = msm.submit(part)
        while (found := msm.poll(ticket)) is None:
            pass
        # Points 3 and 4 of the generator, scalars 3 and 10.
        assert found.affine() == bn254.multiply(bn254.GENERATOR, 3 * 3 + 4 * 10)
        # The jobs keep the memory.
        points.write(bn254.points_to_bytes([None]), 0)
        points.close(), scalars.close()
        msm.wait(msm.submit(job))
        assert msm.in_flight == 0
        msm.recover()
        job.close(), part.close()
        with pytest.raises(xdma.ClosedError):
            msm.submit(job)
        with pytest.raises(xdma.ClosedError):
            msm.prepare(points, scalars)


def test_misuse_of_sums(msm_card: xdma.Card, card: xdma.Card) -> None:
    points, scalars = msm_card.points(bytes(64 * 4)), msm_card.scalars(bytes(32 * 4))
    with msm_card.msm() as msm, xdma.Card.emulate() as other:
        for call in (
            lambda: msm.compute(bytes(63), bytes(32)),
            lambda: msm.compute(bytes(64), bytes(31)),
            lambda: msm.compute(bytes(64), bytes(64)),
            lambda: msm.compute(bytes(64), bytes(32), form="other"),  # type: ignore[arg-type]
            lambda: msm.compute(bytes(64), bytes(32), timeout=-1),
            lambda: msm.compute(b"\x01" * 64, bytes(32), check=True),
            lambda: msm.compute(bytes(64), b"\xff" * 32, check=True),
            lambda: msm_card.points(bytes(65)),
            lambda: msm_card.scalars(bytes(33)),
            lambda: msm_card.scalars(bytes(32), "other"),  # type: ignore[arg-type]
            lambda: points.write(bytes(64), 4),
            lambda: points.write(bytes(1)),
            lambda: scalars.write(bytes(64), 3),
            lambda: scalars.write(bytes(32), 2**64 - 1),
            lambda: msm.prepare(points, scalars, count=5),
            lambda: msm.prepare(points, scalars, first_point=5),
            lambda: msm.prepare(points, scalars, first_point=1),
            lambda: msm.prepare(points, scalars, first_scalar=2**64 - 1, count=2**64 - 1),
            lambda: msm.prepare(points, other.scalars(bytes(128))),
            lambda: other.msm(chunk=3),
            lambda: other.msm(h2c=4),
        ):
            with pytest.raises(xdma.ArgumentError):
                call()
        with pytest.raises(xdma.ArgumentError, match="point"):
            msm_card.points(b"\x01" * 64).check()
        with pytest.raises(xdma.ArgumentError, match="scalar"):
            msm_card.scalars(b"\xff" * 32).check()
        with pytest.raises(TypeError):
            msm.compute([], [])  # type: ignore[arg-type]
        with pytest.raises(xdma.BusyError):
            msm_card.msm()
        ticket = msm.submit(msm.prepare(points, scalars))
        msm.wait(ticket)
        for call in (lambda: msm.wait(ticket), lambda: msm.poll(ticket)):
            with pytest.raises(xdma.Error):
                call()
        with other.msm() as second:
            with pytest.raises(xdma.ArgumentError):
                second.poll_accepted(ticket)
            with pytest.raises(xdma.ArgumentError):
                second.submit(msm.prepare(points, scalars))
    msm.close()
    for call in (msm.recover, lambda: msm.compute(b"", b""), lambda: msm.design, lambda: msm.in_flight):
        with pytest.raises(xdma.ClosedError):
            call()
    with pytest.raises(xdma.UnsupportedError):
        card.msm()


def test_data_is_closed_by_with_statements(msm_card: xdma.Card) -> None:
    with msm_card.msm() as msm, msm_card.points(bytes(64)) as points, msm_card.scalars(bytes(32)) as scalars:
        with msm.prepare(points, scalars) as job:
            msm.wait(msm.submit(job))
        assert job.closed and not points.closed
    assert points.closed and scalars.closed and msm.closed


def test_numbers() -> None:
    point = bn254.multiply(bn254.GENERATOR, 12345)
    assert point is not None and (point[1] ** 2 - point[0] ** 3 - 3) % bn254.P == 0
    assert bn254.multiply(point, bn254.R) is None and bn254.add(point, (point[0], bn254.P - point[1])) is None
    for call in (
        lambda: bn254.points_to_bytes([(bn254.P, 0)]),
        lambda: bn254.scalars_to_bytes([bn254.R]),
        lambda: bn254.scalars_to_bytes([-1]),
        lambda: bn254.affine(bytes(95)),
    ):
        with pytest.raises(ValueError):
            call()


def test_a_sum_whose_wait_ends_early_is_not_lost(msm_card: xdma.Card) -> None:
    with msm_card.msm() as msm:
        assert msm.last_ticket is None
        msm.set_label(2**32 - 1)
        with pytest.raises(xdma.TimeoutError):
            msm.compute(bytes(64 << 12), bytes(32 << 12), timeout=0)
        ticket = msm.last_ticket
        assert ticket is not None and msm.wait(ticket).label == 2**32 - 1
        assert msm.compute(bytes(64), bytes(32)).label == 0
        for label in (-1, 2**32):
            with pytest.raises(OverflowError):
                msm.set_label(label)
    with pytest.raises(xdma.ClosedError):
        msm.last_ticket
