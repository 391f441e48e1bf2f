"""Tests the DMA engine between two memories that stall, delay and reorder at random, with literal numbers from PG195."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp
from memory_slave import MemorySlave

# Host addresses, above 4 GiB.
LIST, DATA, WORD = 0x12_3400_0000, 0x12_3480_0000, 0x12_34FF_0000
CARD = 0x7_0000_0000
STOP, COMPLETED = 1, 2
# Run, and log everything.
GO_H2C, GO_C2H, WRITE_BACK = 0x00FF_FE7F, 0x00F8_3E7F, 0x0400_0000
BUSY = 1


class Channel:
    def __init__(self, to_card, index=0):
        self.to_card, self.index = to_card, index
        self.base = (0 if to_card else 0x1000) + 0x100 * index
        self.sgdma = self.base + 0x4000
        self.common = (1 if to_card else 0x1_0000) << index
        self.word = WORD + self.base
        self.go = GO_H2C if to_card else GO_C2H


class Bench:
    """The engine, its two memories, and the registers."""

    async def start(self, dut, seed=1, latency=(5, 80), share=0.3):
        self.dut, self.rng = dut, random.Random(seed)
        cocotb.start_soon(Clock(dut.clk, 4, "ns").start())
        dut.rst_n.value = 0
        dut.max_payload.value, dut.max_read_request.value = 1, 2
        dut.user_irq.value = dut.irq_ack.value = dut.flr.value = 0
        await ClockCycles(dut.clk, 4)
        self.running = {}  # lists by the address of their write-back
        self.host = MemorySlave(dut, "m_host", 10 * seed, latency, share)
        self.card = MemorySlave(dut, "m_card", 10 * seed + 1, latency, share, fixed=True)
        self.host.on_write = self.check_order
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst_n, reset_active_level=False)
        dut.rst_n.value = 1
        await ClockCycles(dut.clk, 4)
        return self

    async def read(self, at):
        return await self.lite.read_dword(at)

    async def write(self, at, value):
        await self.lite.write_dword(at, value)

    def pieces(self, channel, count, longest, aligned=False):
        """Returns transfers (host address, card address, length) in separate memory, with random data in their sources."""
        place = 0x10_0000 * channel.index + 0x40_0000 * channel.to_card
        host, card, found = DATA + place, CARD + place, []
        for _ in range(count):
            length = 64 * self.rng.randint(1, longest // 64) if aligned else self.rng.randint(1, longest)
            if not aligned:
                host, card = host + self.rng.randint(0, 130), card + self.rng.randint(0, 130)
            data = self.rng.randbytes(length)
            self.memory(channel, True).write(host if channel.to_card else card, data)
            found.append((host, card, length, data))
            host, card = host + length + 64 & ~63, card + length + 64 & ~63
        return found

    def memory(self, channel, source):
        return (self.host if channel.to_card == source else self.card).memory

    def lay(self, channel, pieces, at=LIST, each=0, last=STOP | COMPLETED):
        """Writes descriptors in blocks that end at 2 KiB boundaries. Returns the adjacent count for the start register."""
        count = len(pieces)
        block = lambda i: min(64 - (at // 32 + i) % 64, count - i)
        for i, (host, card, length, _) in enumerate(pieces):
            end = i + 1 == count
            adjacent = 0 if end else block(i + 1) - 1 if block(i) == 1 else block(i) - 2
            source, destination = (host, card) if channel.to_card else (card, host)
            control = 0xAD4B_0000 | adjacent << 8 | each | (last if end else 0)
            words = control | length << 32, source, destination, 0 if end else at + 32 * (i + 1)
            self.host.memory.write(at + 32 * i, b"".join(word.to_bytes(8, "little") for word in words))
        return block(0) - 1

    async def go(self, channel, adjacent, control, at=LIST):
        await self.write(channel.base + 0x04, 0)
        await self.write(channel.base + 0x88, channel.word & 0xFFFF_FFFF)
        await self.write(channel.base + 0x8C, channel.word >> 32)
        await self.write(channel.sgdma + 0x80, at & 0xFFFF_FFFF)
        await self.write(channel.sgdma + 0x84, at >> 32)
        await self.write(channel.sgdma + 0x88, adjacent)
        await self.write(channel.base + 0x04, control)

    async def idle(self, channel):
        while await self.read(channel.base + 0x40) & BUSY:
            pass

    async def outcome(self, channel):
        """Returns the status and the completed count of a channel that went idle."""
        await self.idle(channel)
        return await self.read(channel.base + 0x44), await self.read(channel.base + 0x48)

    def check(self, channel, pieces):
        for number, (host, card, length, data) in enumerate(pieces):
            found = self.memory(channel, False).read(card if channel.to_card else host, length)
            assert found == data, f"piece {number}: {host:#x} {card:#x} {length}"

    def check_order(self, at, data):
        """Fails if a count is written back before the payload of that many descriptors is in memory."""
        if at in self.running:
            channel, pieces = self.running[at]
            self.check(channel, pieces[: int.from_bytes(data, "little") & 0xFF_FFFF])


async def bench(dut, **options):
    return await Bench().start(dut, **options)


ALL = [Channel(True, i) for i in range(2)] + [Channel(False, i) for i in range(3)]
H2C, C2H = ALL[0], ALL[2]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def identifiers_and_reset_values(dut):
    b = await bench(dut)
    expected = {0x0000: 0x1FC0_0006, 0x1000: 0x1FC1_0006, 0x2000: 0x1FC2_0006, 0x3000: 0x1FC3_0006}
    expected |= {0x4000: 0x1FC4_0006, 0x5000: 0x1FC5_0006, 0x6000: 0x1FC6_0006, 0x0100: 0x1FC0_0106}
    expected |= {0x5200: 0x1FC5_0206, 0x0200: 0, 0x1300: 0, 0x4200: 0, 0x7000: 0, 0x1_0000: 0}
    expected |= {0x004C: 0x0001_0140, 0x104C: 0x0001_0140, 0x3018: 3, 0x301C: 1, 0x3010: 0xFF01, 0x300C: 2, 0x3008: 1}
    expected |= {at: 0 for at in [0x04, 0x40, 0x44, 0x48, 0x90, 0xC4, 0x2004, 0x2010, 0x2080, 0x20A0, 0x4080, 0x408C, 0x6010]}
    for at, value in expected.items():
        assert await b.read(at) == value, f"{at:#x}"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def registers_and_their_aliases(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        for offset, mask in [(0x04, 0x0EFF_FE7E), (0x90, 0x00FF_FE7E)]:
            set_bits, clear_bits = (0x08, 0x0C) if offset == 0x04 else (0x94, 0x98)
            await b.write(channel.base + offset, 0xFFFF_FFFE)
            assert await b.read(channel.base + offset) == mask
            await b.write(channel.base + clear_bits, 0x0000_0FFE)
            assert await b.read(channel.base + offset) == mask & ~0xFFE
            await b.write(channel.base + set_bits, 0x0000_0012)
            assert await b.read(channel.base + offset) == mask & ~0xFFE | 0x12
        for at, mask in [(channel.base + 0x88, 0xFFFF_FFFF), (channel.sgdma + 0x84, 0xFFFF_FFFF), (channel.sgdma + 0x88, 0x3F)]:
            await b.write(at, 0xFEDC_BA98)
            assert await b.read(at) == 0xFEDC_BA98 & mask
        for register in [0x6010, 0x6020]:
            await b.write(register + 4, 0xFFFF_FFFF)
            assert await b.read(register) == 0x0007_0003
            await b.write(register + 8, channel.common)
            assert await b.read(register) == 0x0007_0003 & ~channel.common
            await b.write(register, 0)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def narrow_writes_change_only_their_bytes(dut):
    b = await bench(dut)
    plain = [(0x2004, 0xFFFF), (0x2010, 0x1F), (0x2084, 0x1F1F_1F1F), (0x20A4, 0x1F1F_1F1F), (0x3040, 7), (0x3060, 0x1F)]
    plain += [(0x6010, 0x0007_0003), (0x6020, 0x0007_0003)]
    for channel in [H2C, C2H]:
        plain += [(channel.base + 0x04, 0x0EFF_FE7E), (channel.base + 0x90, 0x00FF_FE7E), (channel.sgdma + 0x88, 0x3F)]
        plain += [(at, 0xFFFF_FFFF) for at in [channel.base + 0x88, channel.base + 0x8C, channel.sgdma + 0x80, channel.sgdma + 0x84]]
    for at, mask in plain:
        await b.write(at, 0xFFFF_FFFE)
        expected = 0xFFFF_FFFE & mask
        for byte in [2, 0, 3, 1]:
            await b.lite.write(at + byte, b"\0")
            expected &= ~(0xFF << 8 * byte)
            assert await b.read(at) == expected, f"{at:#x}"
    # The bytes that are not written set, clear and add nothing.
    await b.write(0x2004, 0x0101)
    await b.lite.write(0x2008, b"\x02")
    assert await b.read(0x2004) == 0x0103
    await b.lite.write(0x200D, b"\x01")
    assert await b.read(0x2004) == 0x0003
    await b.write(0x6024, C2H.common)
    await b.write(C2H.sgdma + 0x8C, 0x0105)
    await b.lite.write(C2H.sgdma + 0x8C, b"\x03")
    assert await b.read(C2H.sgdma + 0x8C) == 0x0108
    pieces = b.pieces(H2C, 1, 64)
    await b.go(H2C, b.lay(H2C, pieces), H2C.go)
    await b.idle(H2C)
    await b.lite.write(H2C.base + 0x41, b"\xff\xff\xff")
    assert await b.read(H2C.base + 0x40) == 0x06
    await b.lite.write(H2C.base + 0x40, b"\x02")
    assert await b.read(H2C.base + 0x40) == 0x04


async def transfer(b, channel, pieces, control=WRITE_BACK, at=LIST, **flags):
    b.running[channel.word] = channel, pieces
    adjacent = b.lay(channel, pieces, at=at, **flags)
    await b.go(channel, adjacent, channel.go | control, at=at)
    assert await b.outcome(channel) == (0x06, len(pieces))
    b.check(channel, pieces)
    assert b.host.memory.word(channel.word) == len(pieces)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def aligned_transfers_arrive(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        await transfer(b, channel, b.pieces(channel, 12, 8192, aligned=True))


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def any_alignment_and_length(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        await transfer(b, channel, b.pieces(channel, 90, 200))
        await transfer(b, channel, b.pieces(channel, 12, 9000))


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def all_channels_at_once(dut):
    b = await bench(dut)
    runs = []
    for number, channel in enumerate(ALL):
        pieces = b.pieces(channel, 50, 600)
        at = LIST + 0x1_0000 * number + 32 * b.rng.randint(0, 127)
        runs.append(cocotb.start_soon(transfer(b, channel, pieces, at=at, each=COMPLETED)))
    for run in runs:
        await run
    assert b.host.most_reads > 8
    # Each client has an ID of its own, so the slave may reorder across clients, and does; it must not within one.
    for number, channel in enumerate(ALL):
        assert b.host.owners[LIST + 0x1_0000 * number >> 16] == {2 + number}
        memory, place = (b.host, DATA) if channel.to_card else (b.card, CARD)
        place += 0x10_0000 * channel.index + 0x40_0000 * channel.to_card
        assert memory.owners[place >> 16] == {channel.index}
    assert min(b.host.overtaken, b.card.overtaken) > 100


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def requests_follow_the_read_request_size(dut):
    b = await bench(dut, share=0)
    for code, beats in [(0, 2), (1, 4), (2, 8), (5, 8)]:
        dut.max_read_request.value = code
        b.host.reads.clear()
        await transfer(b, H2C, b.pieces(H2C, 6, 5000))
        assert max(count for at, count in b.host.reads if at >= DATA) == beats


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_block_is_fetched_with_one_request(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        # Two blocks of 64, and one of 22. Then blocks of 1, 64, and 35, at addresses that are not multiples of a beat.
        for at, fetches in [(LIST, [(0, 32), (2048, 32), (4096, 11)]), (LIST + 2048 - 32, [(0, 1), (32, 32), (2080, 18)])]:
            b.host.reads.clear()
            await transfer(b, channel, b.pieces(channel, 150 if at == LIST else 100, 100), at=at)
            assert [(a - at, count) for a, count in b.host.reads if a < DATA] == fetches
        # A block that the list says continues in the next page is divided there.
        pieces, at = b.pieces(channel, 40, 100), LIST + 4096 - 32 * 9
        b.lay(channel, pieces, at=at)
        for number in range(39):
            b.host.memory.write(at + 32 * number + 1, bytes([38 - number]))
        b.host.reads.clear()
        b.running[channel.word] = channel, pieces
        await b.go(channel, 39, channel.go, at=at)
        assert await b.outcome(channel) == (0x06, 40)
        assert [(a - at, count) for a, count in b.host.reads if a < DATA] == [(0, 5), (32 * 9, 16)]


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def zero_length_counts_and_moves_nothing(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        pieces = b.pieces(channel, 3, 300)
        pieces[1] = (*pieces[1][:2], 0, b"")
        await transfer(b, channel, pieces)


async def failing(b, channel, change, count=5, control=None):
    """Runs a list after `change` spoilt it, and returns the outcome. What was counted must have arrived, and the channel must then
    work again."""
    pieces = b.pieces(channel, count, 5000)
    adjacent = b.lay(channel, pieces)
    change(pieces)
    await b.go(channel, adjacent, channel.go if control is None else control)
    outcome = await b.outcome(channel)
    if outcome[0]:
        b.check(channel, pieces[: outcome[1]])
    b.host.errors.clear()
    b.card.errors.clear()
    await transfer(b, channel, b.pieces(channel, 3, 300))
    return outcome


def spoil(b, number, word, value):
    return lambda _: b.host.memory.write(LIST + 32 * number + 4 * word, value.to_bytes(4, "little"))


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def errors_of_the_list_stop_the_channel(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        for number in [0, 3, 4]:
            assert await failing(b, channel, spoil(b, number, 0, 0xAD4C_0000)) == (0x10, number)

        def refuse(_):
            b.host.errors.append((LIST, LIST + 4096, AxiResp.SLVERR))

        assert await failing(b, channel, refuse) == (0x8_0010, 0)
        # It stops even if nothing is logged.
        assert await failing(b, channel, refuse, control=1) == (0, 0)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def errors_of_the_payload_stop_the_channel(dut):
    b = await bench(dut)
    slave, decode = AxiResp.SLVERR, AxiResp.DECERR
    for channel, host, resp, status in [
        (H2C, True, slave, 1 << 9),
        (H2C, True, decode, 1 << 9),
        (H2C, False, slave, 1 << 15),
        (H2C, False, decode, 1 << 14),
        (C2H, False, slave, 1 << 10),
        (C2H, False, decode, 1 << 9),
        (C2H, True, slave, 1 << 10),
    ]:
        for number, part in [(0, 0), (2, 1), (4, 0)]:

            def refuse(pieces):
                at = pieces[number][0 if host else 1] + (pieces[number][2] - 1) * part
                # The whole beat: a response is for a beat.
                at &= ~63
                (b.host if host else b.card).errors.append((at, at + 64, resp))

            assert await failing(b, channel, refuse) == (status, number), f"{channel.base:#x} {host} {resp} {number}"


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def errors_that_are_not_logged_do_not_stop(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        source = b.host if channel.to_card else b.card

        def refuse(pieces):
            at = pieces[1][0 if channel.to_card else 1]
            source.errors.append((at, at + 64, AxiResp.SLVERR))

        assert await failing(b, channel, refuse, control=1) == (0, 5)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def an_error_does_not_disturb_other_channels(dut):
    b = await bench(dut)
    others = []
    for number, channel in enumerate(ALL[1:]):
        pieces = b.pieces(channel, 30, 700)
        others.append(cocotb.start_soon(transfer(b, channel, pieces, at=LIST + 0x1_0000 * (number + 1), each=COMPLETED)))
    for _ in range(3):
        pieces = b.pieces(H2C, 5, 700)
        adjacent = b.lay(H2C, pieces)
        at = pieces[2][1] & ~63
        b.card.errors = [(at, at + 64, AxiResp.SLVERR)]
        await b.go(H2C, adjacent, H2C.go)
        assert await b.outcome(H2C) == (0x8000, 2)
    for other in others:
        await other


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def fixed_addresses(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        [(host, card, length, data)] = b.pieces(channel, 1, 4096, aligned=True)
        pieces = [(host, card, 4096, data.ljust(4096, b"x"))]
        b.memory(channel, True).write(host if channel.to_card else card, pieces[0][3])
        adjacent = b.lay(channel, pieces)
        await b.go(channel, adjacent, channel.go | 0x0200_0000)
        assert await b.outcome(channel) == (0x06, 1)
        if channel.to_card:
            assert b.card.memory.read(card, 64) == pieces[0][3][-64:]
        else:
            assert b.host.memory.read(host, 4096) == pieces[0][3][:64] * 64
        # Misaligned: an error if logged, and otherwise the address advances.
        pieces = [(host, card + 4, 128, data.ljust(128, b"x")[:128])]
        b.memory(channel, True).write(host if channel.to_card else card + 4, pieces[0][3])
        adjacent = b.lay(channel, pieces)
        await b.go(channel, adjacent, channel.go | 0x0200_0000)
        assert await b.outcome(channel) == (0x08, 0)
        await b.go(channel, adjacent, 0x0200_0001)
        assert await b.outcome(channel) == (0, 1)
        b.check(channel, pieces)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def clearing_run_stops_after_the_current_descriptor(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        for delay in [0, 40, 150, 400, 900]:
            pieces = b.pieces(channel, 40, 700)
            b.running[channel.word] = channel, pieces
            places = [(card if channel.to_card else host, length) for host, card, length, _ in pieces]
            for at, length in places:
                b.memory(channel, False).write(at, b"." * length)
            await b.go(channel, b.lay(channel, pieces), channel.go | WRITE_BACK)
            await ClockCycles(dut.clk, delay)
            await b.write(channel.base + 0x0C, 1)
            status, count = await b.outcome(channel)
            assert (status, count < 40) in [(0x40, True), (0x06, False), (0x46, False)], f"{delay}: {status:#x} {count}"
            b.check(channel, pieces[:count])
            # Descriptors beyond the count wrote nothing.
            for at, length in places[count:]:
                assert b.memory(channel, False).read(at, length) == b"." * length
            await transfer(b, channel, b.pieces(channel, 3, 300))


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def credits_and_halt_hold_back_descriptors(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        pieces = b.pieces(channel, 20, 300)
        adjacent = b.lay(channel, pieces)
        await b.write(0x6014, channel.common)
        await b.write(0x6024, channel.common)
        await b.go(channel, adjacent, channel.go)
        for total in [700, 1023, 1023]:
            await b.write(channel.sgdma + 0x8C, 700)
            assert await b.read(channel.sgdma + 0x8C) == total
        await b.write(channel.base + 0x0C, 1)
        await b.idle(channel)
        assert await b.read(channel.sgdma + 0x8C) == 0
        await b.write(0x6018, channel.common)
        await b.go(channel, adjacent, channel.go)
        done = 0
        for credits in [1, 2, 9, 8]:
            await b.write(channel.sgdma + 0x8C, credits)
            done += credits
            await ClockCycles(dut.clk, 50)
            await b.idle(channel)
            assert await b.read(channel.base + 0x48) == done
        assert await b.read(channel.base + 0x44) == 0x06
        b.check(channel, pieces)
        await b.write(0x6028, channel.common)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def interrupts_are_pulses_that_wait_for_their_acknowledgement(dut):
    b = await bench(dut)
    pulses = [0] * 16

    async def count():
        while True:
            await RisingEdge(dut.clk)
            for line in range(16):
                pulses[line] += int(dut.irq_req.value) >> line & 1

    async def expect(**wanted):
        await ClockCycles(dut.clk, 20)
        expected = [wanted.get(f"line{line}", 0) for line in range(16)]
        assert pulses == expected, f"{pulses} instead of {expected}"

    async def acknowledge(line):
        dut.irq_ack.value = 1 << line
        await RisingEdge(dut.clk)
        dut.irq_ack.value = 0

    cocotb.start_soon(count())
    # H2C 0 has bit 0, C2H 0 the bit after the two H2C channels.
    await b.write(0x20A0, 0x0302_0100)
    await b.write(0x2080, 0x1209_0A05)
    for bit, channel in [(0, H2C), (2, C2H)]:
        await b.write(channel.base + 0x90, 0x06)
        await b.go(channel, b.lay(channel, b.pieces(channel, 3, 300)), channel.go)
        await b.idle(channel)
        assert (await b.read(0x204C), await b.read(0x2044)) == (1 << bit, 0)
        await expect()
        await b.write(0x2014, 1 << bit)
        assert await b.read(0x2044) == 1 << bit
        await expect(**{f"line{bit}": 1})
        # Another rise sends nothing before the acknowledgement.
        await b.write(channel.base + 0x98, 0x06)
        await b.write(channel.base + 0x94, 0x06)
        await expect(**{f"line{bit}": 1})
        await acknowledge(bit)
        await expect(**{f"line{bit}": 2})
        # An acknowledgement that does not come is waited for 200 clocks.
        await b.write(channel.base + 0x98, 0x06)
        await b.write(channel.base + 0x94, 0x06)
        await expect(**{f"line{bit}": 2})
        await ClockCycles(dut.clk, 200)
        await expect(**{f"line{bit}": 3})
        await acknowledge(bit)
        await b.write(0x2018, 1 << bit)
        await b.read(channel.base + 0x44)
        pulses[bit] = 0
    # User lines: vectors 5, 10 and 9, and 18, which has no line.
    await b.write(0x2008, 0xF)
    dut.user_irq.value = 0xB
    await expect(line5=1, line10=1)
    assert (await b.read(0x2040), await b.read(0x2048)) == (0xB, 0xB)
    dut.user_irq.value = 0x14
    await expect(line5=1, line10=1, line9=1)
    assert (await b.read(0x2040), await b.read(0x2048)) == (0x4, 0x14)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def the_interrupt_follows_the_write_back(dut):
    b = await bench(dut, latency=(50, 300))
    seen = []

    async def watch():
        while True:
            await RisingEdge(dut.clk)
            if int(dut.irq_req.value):
                seen.append((int(dut.irq_req.value), b.host.memory.word(H2C.word), b.host.memory.word(C2H.word)))

    cocotb.start_soon(watch())
    await b.write(0x20A0, 0x0403_0201)
    await b.write(0x2014, 0x5)
    for channel in [H2C, C2H]:
        await b.write(channel.base + 0x90, 0x06)
        await transfer(b, channel, b.pieces(channel, 7, 300))
    assert seen == [(1 << 1, 7, 0), (1 << 3, 7, 7)]


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def the_count_wraps_at_24_bits_and_the_register_does_not(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        pieces = b.pieces(channel, 5, 200)
        await b.write(0x6014, channel.common)
        await b.go(channel, b.lay(channel, pieces, each=COMPLETED), channel.go | WRITE_BACK)
        # Counting this far would take too long.
        dut.g_channel[ALL.index(channel)].u_channel.u_complete.count.value = 0xFF_FFFE
        await b.write(0x6018, channel.common)
        assert await b.outcome(channel) == (0x06, 0x100_0003)
        assert b.host.memory.word(channel.word) == 3


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def the_monitor_counts_beats(dut):
    b = await bench(dut)
    for channel in [H2C, C2H]:
        await b.write(channel.base + 0xC0, 0x2)
        await b.write(channel.base + 0xC0, 0x5)
        assert await b.read(channel.base + 0xC4) == 0
        pieces = b.pieces(channel, 4, 2048, aligned=True)
        await transfer(b, channel, pieces)
        beats = sum(piece[2] for piece in pieces) // 64
        assert await b.read(channel.base + 0xCC) == beats
        cycles = await b.read(channel.base + 0xC4)
        assert cycles == await b.read(channel.base + 0xC4) > beats
        assert await b.read(channel.base + 0xC8) == await b.read(channel.base + 0xD0) == 0


async def function_reset(b):
    """Performs a function-level reset and returns the clocks it took."""
    b.dut.flr.value = 1
    cycles = 0
    while not b.dut.flr_done.value:
        await RisingEdge(b.dut.clk)
        cycles += 1
    b.dut.flr.value = 0
    await ClockCycles(b.dut.clk, 4)
    assert not b.dut.flr_done.value
    return cycles


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_function_reset_drains_and_clears(dut):
    b = await bench(dut)
    for round in range(4):
        for number, channel in enumerate(ALL):
            pieces = b.pieces(channel, 30, 3000)
            at = LIST + 0x1_0000 * number
            await b.go(channel, b.lay(channel, pieces, at=at), channel.go | WRITE_BACK, at=at)
        await ClockCycles(dut.clk, 300 * round)
        cycles = await function_reset(b)
        assert 0 < cycles < 3000
        assert not b.host.under_way and not b.card.under_way
        for channel in ALL:
            for at in [0x04, 0x40, 0x48, 0x88, 0x4080, 0x4088]:
                assert await b.read(channel.base + at) == 0
        await transfer(b, H2C, b.pieces(H2C, 3, 300))
        await transfer(b, C2H, b.pieces(C2H, 3, 300))


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_card_that_hangs_is_declared_dead(dut):
    b = await bench(dut, share=0)
    b.card.hang = True
    for channel, error in [(H2C, 0x8000), (C2H, 0x0400)]:
        pieces = b.pieces(channel, 5, 9000)
        await b.go(channel, b.lay(channel, pieces), channel.go)
    await ClockCycles(dut.clk, 2000)
    assert (await b.read(0x40), await b.read(0x1040), int(dut.card_dead.value)) == (1, 1, 0)
    # The host's side is not affected.
    assert b.host.under_way == 0
    assert await b.outcome(H2C) == (0x8000, 0)
    assert await b.outcome(C2H) == (0x0400, 0)
    assert dut.card_dead.value
    # Later transfers fail at once.
    for channel, error in [(H2C, 0x8000), (C2H, 0x0400)]:
        await b.go(channel, b.lay(channel, b.pieces(channel, 5, 9000)), channel.go)
        await ClockCycles(dut.clk, 800)
        assert await b.outcome(channel) == (error, 0)
    assert await function_reset(b) < 20
    assert not dut.card_dead.value


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_function_reset_does_not_wait_for_a_card_that_hangs(dut):
    b = await bench(dut, share=0)
    b.card.hang = True
    for channel in [H2C, C2H]:
        await b.go(channel, b.lay(channel, b.pieces(channel, 5, 9000)), channel.go)
    await ClockCycles(dut.clk, 800)
    assert await function_reset(b) < 700
