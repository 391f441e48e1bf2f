from __future__ import annotations

import pytest

import xdma


def test_registers_have_names_and_fields(msm_card: xdma.Card) -> None:
    registers = msm_card.registers
    with msm_card.h2c():
        control = registers["h2c0.control"]
        assert control.run in (True, False) and control.fields["run"] == control.run
        assert control.name == "h2c0.control" and control.address == 4 and control.access == "RW"
    identifier = registers["c2h3.identifier"]
    assert identifier.magic == 0x1FC and identifier.channel == 3 and not identifier.stream
    assert int(identifier) == identifier.value == identifier.__index__() and identifier.value >> 20 == 0x1FC
    assert "magic" in repr(identifier)
    names = list(registers)
    assert len(names) == len(registers) == len(set(names)) > 200
    assert "irq.user_vectors[3]" in names and "msm.image_id" in names and "msm.image_id" in registers
    for name in names:
        try:
            assert registers[name].name == name
        except xdma.ArgumentError as error:
            assert "cannot be read" in str(error) or "clears it" in str(error)
    assert registers.read("h2c0.status_rc", force=True).access == "RC"
    assert registers["msm.cycles"].value >= 0
    registers["msm.label"] = 77
    assert registers["msm.label"].value == 77


def test_misuse_of_registers(msm_card: xdma.Card, card: xdma.Card) -> None:
    registers = msm_card.registers
    for name in ("", "h2c0", "h2c9.control", "h2c0.nothing", "irq.user_vectors", "irq.user_vectors[4]"):
        assert name not in registers
        with pytest.raises(KeyError):
            registers[name]
    for name in ("h2c0.control_w1s", "h2c0.status_rc", "msm.push_task"):
        with pytest.raises(xdma.ArgumentError):
            registers.read(name)
    for name in ("h2c0.control", "msm.image_id"):
        with pytest.raises(xdma.ArgumentError):
            registers[name] = 0
    for value in (-1, 2**32):
        with pytest.raises(OverflowError):
            registers["msm.label"] = value
    with pytest.raises(TypeError):
        registers[0]  # type: ignore[index]
    with pytest.raises(NotImplementedError):
        del registers["msm.label"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no field"):
        registers["h2c0.control"].nothing
    with pytest.raises(AttributeError):
        registers["h2c0.control"].value = 5  # type: ignore[misc]
    # This card's logic is not the MSM design.
    assert "msm.label" not in card.registers


def test_registers_of_the_user_logic(card: xdma.Card) -> None:
    user = card.user
    user.write(0x10, 0xDEADBEEF)
    assert user.read(0x10) == 0xDEADBEEF and user.size >= 0x1000
    for offset in (1, 2, user.size, 2**32 - 4):
        with pytest.raises(xdma.ArgumentError):
            user.read(offset)
        with pytest.raises(xdma.ArgumentError):
            user.write(offset, 0)
    for offset, value in ((-4, 0), (0, -1), (2**32, 0), (0, 2**32)):
        with pytest.raises(OverflowError):
            user.write(offset, value)
    with pytest.raises(TypeError):
        user.read(1.5)  # type: ignore[arg-type]
