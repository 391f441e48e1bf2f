"""Tests the part of the F2 image between shell and design: the registers and memory of the engine and the design, the function-level reset,
and a shell that gives up an access."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiLiteRam, AxiMaster
from memory_slave import MemorySlave
from test_engine import C2H, CARD, H2C, Bench, function_reset, transfer

# The offset of the design's registers in BAR0.
USER = 0x1_0000


class Bridge(Bench):
    """The bridge between host memory, the shell's ports, and a design with memory and registers."""

    async def start(self, dut, seed=1):
        self.dut, self.rng = dut, random.Random(seed)
        cocotb.start_soon(Clock(dut.clk, 4, "ns").start())
        dut.rst_n.value = 0
        dut.max_payload.value, dut.max_read_request.value = 1, 2
        dut.design_irq.value = dut.irq_ack.value = dut.flr.value = 0
        await ClockCycles(dut.clk, 4)
        self.running = {}
        self.host = MemorySlave(dut, "m_host", 10 * seed, (5, 80), 0.3)
        self.card = MemorySlave(dut, "m_axi", 10 * seed + 1, (5, 80), 0.3, fixed=True)
        self.host.on_write = self.check_order
        arguments = (dut.clk, dut.rst_n, False)
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), *arguments)
        self.user = AxiLiteRam(AxiLiteBus.from_prefix(dut, "m_axil"), *arguments, size=4096)
        self.pcis = AxiMaster(AxiBus.from_prefix(dut, "s_axi"), *arguments)
        # READY depends on the ID, which would be undefined until the first response.
        dut.m_axi_bid.value = dut.m_axi_rid.value = 0
        dut.rst_n.value = 1
        await ClockCycles(dut.clk, 4)
        return self


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def registers_are_those_of_the_engine_and_of_the_design(dut):
    b = await Bridge().start(dut)
    await b.write(USER + 0x10, 0x1234_5678)
    await b.write(0x4080, 0xFEDC_BA98)
    assert b.user.read_dword(0x10) == 0x1234_5678 and b.user.read_dword(0x80) == 0
    b.user.write_dword(0, 0x5555_AAAA)
    assert [await b.read(at) for at in [0, USER, USER + 0x10, 0x4080, 0x10]] == [0x1FC0_0006, 0x5555_AAAA, 0x1234_5678, 0xFEDC_BA98, 0]
    assert b.user.read_dword(0) == 0x5555_AAAA


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def bar_4_and_the_engine_share_the_memory(dut):
    b = await Bridge().start(dut)
    # What the engine writes can be read through BAR4, and the reverse.
    pieces = b.pieces(H2C, 4, 4096, aligned=True)
    await transfer(b, H2C, pieces)
    for _, card, length, data in pieces:
        assert (await b.pcis.read(card & ~63, length)).data == data
    pieces = b.pieces(C2H, 4, 4096, aligned=True)
    for _, card, length, data in pieces:
        b.card.memory.write(card, bytes(length))
        await b.pcis.write(card, data)
    await transfer(b, C2H, pieces)

    # Both at once.
    async def host():
        for number in range(20):
            at, data = 0x8000_0000 + 8192 * number, b.rng.randbytes(64 * b.rng.randint(1, 30))
            await b.pcis.write(at, data)
            assert (await b.pcis.read(at, len(data))).data == data

    tasks = [cocotb.start_soon(host())]
    for channel in [H2C, C2H]:
        at = 0x12_3400_0000 + 0x1_0000 * channel.to_card
        tasks.append(cocotb.start_soon(transfer(b, channel, b.pieces(channel, 30, 3000), at=at)))
    for task in tasks:
        await task
    assert all(owner >> 16 == 0 for owner in b.card.owners[0x8000_0000 >> 16])
    assert all(owner >> 16 == 1 for owner in b.card.owners[CARD >> 16])


@cocotb.test(timeout_time=40, timeout_unit="us")
async def responses_that_the_shell_does_not_take_do_not_block_the_engine(dut):
    b = await Bridge().start(dut)
    b.card.may_wait = True
    for channel in [b.pcis.read_if.r_channel, b.pcis.write_if.b_channel]:
        channel.pause = True
        access = b.pcis.init_read(0x9000, 256) if channel is b.pcis.read_if.r_channel else b.pcis.init_write(0x9000, bytes(256))
        await ClockCycles(dut.clk, 300)
        assert not access.is_set()
        for engine in [H2C, C2H]:
            await transfer(b, engine, b.pieces(engine, 3, 300))
        channel.pause = False
    assert b.card.under_way == 0


@cocotb.test(timeout_time=40, timeout_unit="us")
async def a_write_that_the_shell_abandons_does_not_block_the_engine(dut):
    b = await Bridge().start(dut)
    b.card.may_wait = True
    before = b.rng.randbytes(512)
    b.card.memory.write(0x9000, before)
    access = b.pcis.init_write(0x9000, b"\xff" * 512)
    while not (dut.s_axi_wvalid.value and dut.s_axi_wready.value):
        await RisingEdge(dut.clk)
    b.pcis.write_if.w_channel.pause = True
    await ClockCycles(dut.clk, 300)
    assert not access.is_set()
    for engine in [H2C, C2H]:
        await transfer(b, engine, b.pieces(engine, 3, 300))
    await ClockCycles(dut.clk, 100)
    # The beats that were sent are in memory, and the others have changed nothing.
    after = b.card.memory.read(0x9000, 512)
    sent = next(at for at in range(0, 513, 64) if after[at:] == before[at:])
    assert 0 < sent < 512 and after[:sent] == b"\xff" * sent
    # The rest comes late, and other writes follow: until a reset, none has an effect, and none blocks the engine.
    b.pcis.write_if.w_channel.pause = False
    b.card.memory.write(0xA000, before)
    await b.pcis.write(0xA000, b"\xee" * 512)
    for engine in [H2C, C2H]:
        await transfer(b, engine, b.pieces(engine, 3, 300))
    assert b.card.memory.read(0x9000, 512) == after and b.card.memory.read(0xA000, 512) == before


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_function_reset_resets_the_design_when_the_engine_is_idle(dut):
    b = await Bridge().start(dut)
    resets = []

    async def watch():
        while True:
            await RisingEdge(dut.clk)
            if not dut.design_rst_n.value:
                resets.append((b.host.under_way, b.card.under_way))

    cocotb.start_soon(watch())
    for _ in range(2):
        for channel in [H2C, C2H]:
            await b.go(channel, b.lay(channel, b.pieces(channel, 20, 3000)), channel.go)
        await ClockCycles(dut.clk, 400)
        await function_reset(b)
        assert resets == [(0, 0)], resets
        assert await b.read(0x4080) == 0
        await transfer(b, H2C, b.pieces(H2C, 3, 300))
        await transfer(b, C2H, b.pieces(C2H, 3, 300))
        resets.clear()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def the_designs_interrupts_pulse_their_lines(dut):
    b = await Bridge().start(dut)
    await b.write(0x2080, 0x0504_0302)
    await b.write(0x2008, 0xFFFF)
    for line in [0, 3]:
        dut.design_irq.value = 1 << line
        pulses = 0
        for _ in range(40):
            await RisingEdge(dut.clk)
            request = int(dut.irq_req.value)
            assert request in (0, 1 << line + 2)
            pulses += request != 0
            dut.irq_ack.value = request
        assert pulses == 1
        dut.design_irq.value = 0
        await ClockCycles(dut.clk, 4)
