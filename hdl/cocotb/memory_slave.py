"""An AXI4 slave with a sparse memory, on the channels of cocotbext-axi. It stalls, delays and reorders at random, and checks the
rules that the PCIM port of the AWS F2 shell enforces."""

import random
from collections import deque

import cocotb
from cocotb.triggers import ReadOnly, RisingEdge
from cocotbext.axi import AxiResp
from cocotbext.axi.axi_channels import AxiARBus, AxiARSink, AxiAWBus, AxiAWSink
from cocotbext.axi.axi_channels import AxiBBus, AxiBSource, AxiRBus, AxiRSource, AxiWBus, AxiWSink

BEAT, PAGE = 64, 4096


class Memory:
    """Bytes by address; 0 where nothing was written."""

    def __init__(self):
        self.pages = {}

    def read(self, at, length):
        out = bytearray()
        while len(out) < length:
            page, offset = divmod(at + len(out), PAGE)
            out += self.pages.get(page, bytes(PAGE))[offset : offset + length - len(out)]
        return bytes(out)

    def write(self, at, data):
        done = 0
        while done < len(data):
            page, offset = divmod(at + done, PAGE)
            part = data[done : done + PAGE - offset]
            self.pages.setdefault(page, bytearray(PAGE))[offset : offset + len(part)] = part
            done += len(part)

    def word(self, at):
        return int.from_bytes(self.read(at, 4), "little")


def stalls(seed, share):
    """Yields pauses in this share of all cycles on average, in bursts of up to 12 cycles."""
    rng = random.Random(seed)
    while True:
        yield from [rng.random() < share] * rng.randint(1, 12)


class MemorySlave:
    """`latency` is the range of the delay of responses in cycles. Those of one ID stay in order; all others are reordered, and the
    beats of several reads are interleaved. A write takes effect with its response."""

    def __init__(self, dut, prefix, seed, latency, share, fixed=False):
        self.dut, self.memory, self.latency, self.fixed = dut, Memory(), latency, fixed
        self.rng = random.Random(seed)
        self.errors = []  # (first address, end, response)
        self.on_write = lambda at, data: None  # called with address and strobed bytes before a write takes effect
        self.reads, self.writes = [], []  # (address, beats) of all requests
        self.hang = False  # accept, but do not respond
        self.may_wait = False  # the master may delay responses and data, and send beats without strobes
        self.under_way = self.most_reads = 0
        self.owners = {}  # the IDs of the reads of each 64 KiB
        self.overtaken = 0  # beats returned before those of an older read with another ID
        arguments = (dut.clk, dut.rst_n, False)
        self.aw = AxiAWSink(AxiAWBus.from_prefix(dut, prefix), *arguments)
        self.w = AxiWSink(AxiWBus.from_prefix(dut, prefix), *arguments)
        self.b = AxiBSource(AxiBBus.from_prefix(dut, prefix), *arguments)
        self.ar = AxiARSink(AxiARBus.from_prefix(dut, prefix), *arguments)
        self.r = AxiRSource(AxiRBus.from_prefix(dut, prefix), *arguments)
        for number, channel in enumerate([self.aw, self.w, self.b, self.ar, self.r]):
            if share:
                channel.set_pause_generator(stalls(seed * 8 + number, share))
        # Responses by ID: (cycle from which they may be sent, what to send).
        self.read_queues, self.write_queues = {}, {}
        self.cycle = 0
        for task in [self.clock(), self.accept_reads(), self.accept_writes(), self.send_reads(), self.send_writes()]:
            cocotb.start_soon(task)
        cocotb.start_soon(self.check_ready(prefix))

    async def clock(self):
        while True:
            await RisingEdge(self.dut.clk)
            self.cycle += 1

    async def check_ready(self, prefix):
        """Responses are accepted at once, but for a cycle after the last beat of a descriptor."""
        valid, ready = getattr(self.dut, prefix + "_rvalid"), getattr(self.dut, prefix + "_rready")
        refused = 0
        while True:
            await RisingEdge(self.dut.clk)
            await ReadOnly()
            if not self.dut.rst_n.value:
                continue
            refused = refused + 1 if valid.value and not ready.value else 0
            assert refused <= 2 or self.may_wait, "RREADY waits"
            assert getattr(self.dut, prefix + "_bready").value or self.may_wait, "BREADY waits"

    def due(self):
        return self.cycle + self.rng.randint(*self.latency)

    def resp(self, address):
        hits = [resp for start, end, resp in self.errors if start <= address < end]
        return hits[0] if hits else AxiResp.OKAY

    def check_address(self, address, length, size, burst):
        assert size == 6, f"size {size}"
        assert address % 4 == 0, f"{address:#x} is not a double-word address"
        assert burst == 1 or (self.fixed and burst == 0), f"burst {burst}"
        beats = length + 1
        if burst == 1:
            assert address % PAGE // BEAT + beats <= PAGE // BEAT, f"{address:#x} + {beats} beats cross 4 KiB"
        return beats

    async def accept_reads(self):
        while True:
            ar = await self.ar.recv()
            address, burst = int(ar.araddr), int(ar.arburst)
            beats = self.check_address(address, int(ar.arlen), int(ar.arsize), burst)
            self.reads.append((address, beats))
            self.under_way += 1
            self.most_reads = max(self.most_reads, self.under_way)
            base = address // BEAT * BEAT
            places = [base + (BEAT * i if burst else 0) for i in range(beats)]
            self.owners.setdefault(address >> 16, set()).add(int(ar.arid))
            self.read_queues.setdefault(int(ar.arid), deque()).append((self.due(), deque(places), len(self.reads)))

    async def send_reads(self):
        while True:
            await RisingEdge(self.dut.clk)
            ready = [key for key, queue in self.read_queues.items() if queue and queue[0][0] <= self.cycle]
            if self.hang or not ready or self.r.count() > 1:
                continue
            key = self.rng.choice(ready)
            _, places, number = self.read_queues[key][0]
            self.overtaken += any(queue and queue[0][2] < number for queue in self.read_queues.values())
            at = places.popleft()
            if not places:
                self.read_queues[key].popleft()
                self.under_way -= 1
            data = int.from_bytes(self.memory.read(at, BEAT), "little")
            response = self.r._transaction_obj()
            response.rid, response.rdata, response.rlast, response.rresp = key, data, not places, self.resp(at)
            self.r.send_nowait(response)

    async def accept_writes(self):
        while True:
            aw = await self.aw.recv()
            address, burst = int(aw.awaddr), int(aw.awburst)
            beats = self.check_address(address, int(aw.awlen), int(aw.awsize), burst)
            self.writes.append((address, beats))
            pieces = []
            for i in range(beats):
                waited = self.cycle
                w = await self.w.recv()
                assert self.w.pause or self.may_wait or self.cycle - waited < 100, "a burst waits for its data"
                assert bool(w.wlast) == (i + 1 == beats), "WLAST"
                strobes = int(w.wstrb)
                if strobes == 0 and self.may_wait:
                    continue
                first, end = (strobes & -strobes).bit_length() - 1, strobes.bit_length()
                assert strobes == (1 << end) - (1 << first), f"strobes {strobes:#x} have a hole"
                assert i + 1 == beats or end == BEAT, "a beat before the last ends early"
                assert first // 4 == address % BEAT // 4 if i == 0 else first == 0, "strobes do not start at the address"
                at = address // BEAT * BEAT + (BEAT * i if burst else 0)
                # Bytes without a strobe may be undefined.
                data = int(str(w.wdata)[8 * (BEAT - end) : 8 * (BEAT - first)], 2)
                pieces.append((at + first, data.to_bytes(end - first, "little")))
            self.write_queues.setdefault(int(aw.awid), deque()).append((self.due(), pieces))

    async def send_writes(self):
        while True:
            await RisingEdge(self.dut.clk)
            ready = [key for key, queue in self.write_queues.items() if queue and queue[0][0] <= self.cycle]
            if self.hang or not ready or self.b.count() > 1:
                continue
            key = self.rng.choice(ready)
            _, pieces = self.write_queues[key].popleft()
            resp = max((self.resp(at) for at, _ in pieces), default=AxiResp.OKAY)
            for at, data in pieces:
                self.on_write(at, data)
                if resp == AxiResp.OKAY:
                    self.memory.write(at, data)
            response = self.b._transaction_obj()
            response.bid, response.bresp = key, resp
            self.b.send_nowait(response)
