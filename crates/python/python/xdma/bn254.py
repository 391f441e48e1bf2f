"""BN254 points and scalars in the byte format of the MSM design.

A point is a pair (x, y) of numbers below P with y^2 = x^3 + 3, or None for infinity. These functions use Python integers and are
meant for tests and small programs. Provers already have their points and scalars as bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

Point = tuple[int, int] | None

P = 0x30644E72E131A029B85045B68181585D97816A916871CA8D3C208C16D87CFD47
"""The modulus of the coordinates."""
R = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001
"""The order of the group: scalars are below it."""
GENERATOR: Point = (1, 2)

_MONTGOMERY = 1 << 256
_FROM_MONTGOMERY = pow(_MONTGOMERY, -1, P)


def points_to_bytes(points: Iterable[Point]) -> bytes:
    """Returns 64 bytes for each point: x then y, little-endian, in Montgomery form; zeros for infinity."""
    return b"".join(_coordinates(point) for point in points)


def _coordinates(point: Point) -> bytes:
    if point is None:
        return bytes(64)
    x, y = point
    if not (0 <= x < P and 0 <= y < P):
        raise ValueError("a coordinate is not below P; reduce it")
    return b"".join((value * _MONTGOMERY % P).to_bytes(32, "little") for value in (x, y))


def scalars_to_bytes(scalars: Iterable[int]) -> bytes:
    """Returns 32 bytes for each scalar, a number below R: little-endian, in canonical form."""
    return b"".join(_scalar(scalar) for scalar in scalars)


def _scalar(scalar: int) -> bytes:
    if not 0 <= scalar < R:
        raise ValueError("a scalar is not below R; reduce it")
    return scalar.to_bytes(32, "little")


def affine(result: bytes) -> Point:
    """Returns the point in a result of 96 bytes: homogeneous X, Y, Z in Montgomery form. Returns None for infinity."""
    if len(result) != 96:
        raise ValueError(f"a result has 96 bytes, and this has {len(result)}; pass MsmResult.bytes")
    x, y, z = (int.from_bytes(result[at : at + 32], "little") * _FROM_MONTGOMERY % P for at in (0, 32, 64))
    if z == 0:
        return None
    inverse = pow(z, -1, P)
    return x * inverse % P, y * inverse % P


def add(a: Point, b: Point) -> Point:
    """Returns the sum of two points."""
    if a is None or b is None:
        return b if a is None else a
    (ax, ay), (bx, by) = a, b
    if ax == bx and (ay + by) % P == 0:
        return None
    slope = 3 * ax * ax * pow(2 * ay, -1, P) if a == b else (by - ay) * pow(bx - ax, -1, P)
    x = (slope * slope - ax - bx) % P
    return x, (slope * (ax - x) - ay) % P


def multiply(point: Point, scalar: int) -> Point:
    """Returns a multiple of a point."""
    total: Point = None
    for bit in bin(scalar % R)[2:]:
        total = add(total, total)
        if bit == "1":
            total = add(total, point)
    return total
