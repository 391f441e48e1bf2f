from __future__ import annotations

import gc
from pathlib import Path

import pytest

import xdma


def test_an_emulated_card_says_so(card: xdma.Card) -> None:
    assert card.emulated and card.name == "f1" and not card.closed
    assert "emulated" in repr(card) and "emulated" in card.describe()
    info = card.info
    assert (info.vendor, info.device) == (0x1D0F, 0xF001)
    assert info.h2c_channels == info.c2h_channels == [0, 1, 2, 3] and not info.streams
    assert info.bus == "vfio-user" and info.interrupts and info.data_width == 64 and "1d0f:f001" in repr(info)
    assert card.quarantined_bytes == 0


def test_open_without_a_name_is_an_emulated_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDMA_CARD", raising=False)
    with xdma.Card.open(pages="4K", idle_limit=1) as card:
        assert card.emulated and card.name == "f1"
    monkeypatch.setenv("XDMA_CARD", "alveo")
    with xdma.Card.open() as card:
        assert card.name == "alveo"
    monkeypatch.setenv("XDMA_CARD", "")
    with pytest.raises(xdma.ArgumentError, match="empty"):
        xdma.Card.open()


@pytest.mark.parametrize("like", ["alveo", "7-series", "streams", "msi"])
def test_other_cards_are_emulated(like: str) -> None:
    with xdma.Card.emulate(like) as card:
        assert card.name == like and card.info.h2c_channels
    assert card.closed


@pytest.mark.parametrize(("like", "expected"), [("f1", (2, 0, 0, None)), ("f2", (0, 0, 65536, 2))])
def test_info_says_where_registers_are(like: str, expected: tuple[int, int, int, int | None]) -> None:
    with xdma.Card.emulate(like, logic="memory") as card:
        info = card.info
        assert (info.register_bar, info.user_bar, info.user_offset, info.interrupt_bar) == expected
        card.user.write(0x10, 7)
        assert card.user.read(0x10) == 7


def test_misuse_of_open() -> None:
    for call in (
        lambda: xdma.Card.open("nothing"),
        lambda: xdma.Card.open("f1", pages="8K"),  # type: ignore[arg-type]
        lambda: xdma.Card.open("f1", mode="fast"),  # type: ignore[arg-type]
        lambda: xdma.Card.open("f1", idle_limit=-1),
        lambda: xdma.Card.open("missing.toml"),
        lambda: xdma.Card.emulate("nothing"),
        lambda: xdma.Card.emulate("0000:00:1d.0"),
        lambda: xdma.Card.emulate(logic="adder"),  # type: ignore[arg-type]
    ):
        with pytest.raises(xdma.ArgumentError):
            call()
    with pytest.raises(FileNotFoundError, match="no card at") as caught:
        xdma.Card.open("unix:/nonexistent/card")
    assert isinstance(caught.value, xdma.NotFoundError) and caught.value.remedy is xdma.Remedy.PREPARE_HOST
    with pytest.raises(xdma.Error):
        xdma.Card.open("ffff:ff:1f.7")
    for call in (lambda: xdma.Card.open(5), lambda: xdma.Card.emulate("f1", "memory"), lambda: xdma.Card()):  # type: ignore
        with pytest.raises(TypeError):
            call()
    with pytest.raises(OverflowError):
        xdma.Card.open("f1", register_bar=-1)
    with xdma.Card.open("f1", inspect_only=True) as card:
        with pytest.raises(xdma.ArgumentError):
            card.h2c()
        with pytest.raises(xdma.ArgumentError):
            card.recover()


def test_closing_a_card_closes_what_was_opened_from_it() -> None:
    with xdma.Card.emulate(logic="memory") as card:
        channel, buffer, interrupt = card.h2c(), card.allocate(64, xdma.H2C), card.user_interrupt(0)
        program, registers, user = channel.program([(buffer, 0)]), card.registers, card.user
        points, scalars = card.points(bytes(64)), card.scalars(bytes(32))
        objects = [channel, buffer, interrupt, program, points, scalars]
        assert not any(thing.closed for thing in objects)
    assert all(thing.closed for thing in objects)
    card.close()
    for call in (
        lambda: card.h2c(),
        lambda: card.c2h(),
        lambda: card.sender(),
        lambda: card.receiver(),
        lambda: card.msm(),
        lambda: card.points(b""),
        lambda: card.scalars(b""),
        lambda: card.allocate(64, xdma.H2C),
        lambda: card.register(bytearray(64), xdma.H2C),
        lambda: card.user_interrupt(0),
        lambda: card.channel_interrupt(xdma.H2C),
        lambda: card.registers,
        lambda: card.user,
        lambda: card.info,
        lambda: card.quarantined_bytes,
        card.describe,
        card.recover,
        card.reset,
        lambda: registers["h2c0.control"],
        lambda: user.read(0),
        interrupt.take,
    ):
        with pytest.raises(xdma.ClosedError):
            call()


def test_dropping_everything_in_any_order_closes_the_card() -> None:
    for order in range(6):
        card = xdma.Card.emulate(logic="memory")
        channel, buffer = card.h2c(), card.allocate(1 << 20, xdma.H2C)
        objects: list[object] = [card, channel, buffer]
        channel.submit(buffer)
        del card, channel, buffer
        for at in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1))[order]:
            del objects[at]
            gc.collect()
        objects.clear()
        gc.collect()


def test_a_card_is_recovered(card: xdma.Card) -> None:
    buffer = card.allocate(64, xdma.H2C)
    with card.h2c() as channel:
        channel.transfer(buffer)
        card.recover()
        with pytest.raises(xdma.EngineError):
            channel.transfer(buffer)
        channel.recover()
        channel.transfer(buffer)
    with pytest.raises(xdma.UnsupportedError):
        card.reset()


def test_a_card_with_a_reset_is_reset(tmp_path: Path) -> None:
    f1 = (Path(__file__).parents[2] / "card-file/cards/f1.toml").read_text()
    description = tmp_path / "card.toml"
    description.write_text(f1.replace("reset = false", "reset = true"))
    with xdma.Card.emulate(str(description), logic="memory") as card:
        assert card.info.resettable
        card.reset()
        with card.h2c() as channel:
            channel.transfer(card.allocate(64, xdma.H2C))


def test_an_exception_in_a_with_statement_closes_the_card() -> None:
    with pytest.raises(ZeroDivisionError):
        with xdma.Card.emulate() as card:
            1 / 0
    assert card.closed
