"""Tests the design with the stub core under an independent master, cocotbext-axi, with random idle cycles and backpressure."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiMaster, AxiResp

SCALARS, POINTS, RESULT, SCRATCH = 0x1000_0000, 0x2000_0000, 0x4000_0000, 0x5000_0000
N_ELEMENTS, PUSH_TASK, RESULT_VALID, POP_RESULT = 0x028, 0x02C, 0x030, 0x0C8
SCALARS_IN_FIFO, CTRL, ERRORS, REFUSED_WRITES = 0x0E0, 0x220, 0x228, 0x2A0
MASK = (1 << 64) - 1


def stalls(seed):
    """Yields pauses in 30 % of all cycles on average, in bursts of up to 8 cycles."""
    rng = random.Random(seed)
    while True:
        yield from [rng.random() < 0.3] * rng.randint(1, 8)


async def start(dut, stalled=True):
    random.seed(1)
    cocotb.start_soon(Clock(dut.clk, 4, "ns").start())
    dut.rst_n.value = 0
    await ClockCycles(dut.clk, 4)
    master = AxiMaster(AxiBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst_n, reset_active_level=False)
    lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst_n, reset_active_level=False)
    if stalled:
        write, read = master.write_if, master.read_if
        channels = [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]
        for seed, channel in enumerate(channels):
            channel.set_pause_generator(stalls(seed))
    dut.rst_n.value = 1
    await ClockCycles(dut.clk, 4)
    return master, lite


def checksum(data):
    """Computes the checksum of `msm_core_stub`."""
    sums, sums_of_sums = [0] * 4, [0] * 4
    for at in range(0, len(data), 8):
        lane = at // 8 % 4
        sums[lane] = (sums[lane] + int.from_bytes(data[at : at + 8], "little")) & MASK
        sums_of_sums[lane] = (sums_of_sums[lane] + sums[lane]) & MASK
    out = b""
    for lane in range(4):
        odd = 0x9E3779B97F4A7C15 * (2 * lane + 1) & MASK
        turned = (sums_of_sums[lane] << 32 | sums_of_sums[lane] >> 32) & MASK
        out += ((sums[lane] * odd & MASK) ^ turned).to_bytes(8, "little")
    return out


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def scratch_memory_reads_back(dut):
    master, _ = await start(dut)
    image = bytearray(4096)
    await master.write(SCRATCH, bytes(image))
    for _ in range(60):
        at, length = random.randrange(3500), random.randint(1, 590)
        data, size = random.randbytes(length), random.choice([None, 6, 5, 3, 0])
        if size is not None and size < 3:
            data = data[:100]
        response = await master.write(SCRATCH + at, data, size=size)
        assert response.resp == AxiResp.OKAY
        image[at : at + len(data)] = data
        at, length = random.randrange(3500), random.randint(1, 590)
        response = await master.read(SCRATCH + at, length, size=random.choice([None, 6, 4]))
        assert response.resp == AxiResp.OKAY
        assert response.data == image[at : at + length]


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def pairs_arrive_whole_and_in_order(dut):
    master, lite = await start(dut)
    for count in [1, 150, 333]:
        scalars = random.randbytes(32 * (count + count % 2))
        points = random.randbytes(64 * count)
        await lite.write_dword(N_ELEMENTS, count)
        await lite.write_dword(PUSH_TASK, 1)
        # Chunks of up to 32 pairs, half of what the FIFOs hold. The writes are queued without waiting for earlier ones.
        writes = []
        for at in range(0, count, 32):
            writes.append(master.init_write(SCALARS, scalars[32 * at : 32 * (at + 32)]))
            writes.append(master.init_write(POINTS, points[64 * at : 64 * (at + 32)]))
        for write in writes:
            await write.wait()
            assert write.data.resp == AxiResp.OKAY
        while not await lite.read_dword(RESULT_VALID):
            pass
        result = (await master.read(RESULT, 96)).data
        assert result[:32] == checksum(scalars[: 32 * count])
        assert result[32:64] == checksum(points)
        assert int.from_bytes(result[64:], "little") == count
        await lite.write_dword(POP_RESULT, 1)
        assert await lite.read_dword(SCALARS_IN_FIFO) == 0
    assert await lite.read_dword(ERRORS) == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def invalid_accesses_are_refused(dut):
    master, lite = await start(dut)
    assert (await master.write(0x6000_0000, bytes(64))).resp == AxiResp.DECERR
    assert (await master.read(0x3000_0000, 64)).resp == AxiResp.DECERR
    assert await lite.read_dword(ERRORS) == 1
    assert (await master.write(POINTS + 4, bytes(64))).resp == AxiResp.SLVERR
    assert (await master.write(SCALARS, bytes(64), size=3)).resp == AxiResp.SLVERR
    assert (await master.write(RESULT, bytes(64))).resp == AxiResp.SLVERR
    assert await lite.read_dword(ERRORS) == 3
    assert await lite.read_dword(REFUSED_WRITES) == 4
    assert (await master.write(SCALARS, bytes(64))).resp == AxiResp.OKAY
    assert await lite.read_dword(SCALARS_IN_FIFO) == 2
