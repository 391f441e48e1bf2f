//! An AXI4 master and an AXI-Lite master that drive the design.

use crate::{Model, Variant};
use std::collections::{HashMap, HashSet, VecDeque};

/// Bytes per beat.
const BEAT: usize = 64;
/// Bytes of a page, whose boundary a burst must not cross.
const PAGE: u64 = 4096;
/// Maximum number of outstanding bursts in each direction, as in the shell of a card.
pub const OUTSTANDING: usize = 32;
/// Time limit of a register access, in clocks. The design always responds earlier.
const REGISTER_TIMEOUT: u64 = 10_000;

/// The AXI burst type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// Every beat has the same address (FIXED).
    Fixed,
    /// The address increases from beat to beat (INCR).
    Increment,
}

/// A response of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// OKAY: the access succeeded.
    Okay,
    /// SLVERR: the design refused the access.
    SlaveError,
    /// DECERR: no window has this address.
    DecodeError,
}

impl Response {
    fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::Okay,
            2 => Self::SlaveError,
            3 => Self::DecodeError,
            _ => panic!("EXOKAY in response to a normal access"),
        }
    }
}

/// Identifies a write until its response is consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriteTag(u64);

/// Identifies a read until its response is consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadTag(u64);

/// How often the master inserts idle clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// Never.
    Off,
    /// On each channel at random, in about this share of the clocks, in units of 1/256, with this random seed.
    Random(u8, u64),
}

/// The payload of an address channel.
struct Request {
    id: u8,
    address: u64,
    burst: Burst,
    len: usize,
}

struct Write {
    address: u64,
    data: Vec<u8>,
    beat: usize,
}

struct Read {
    tag: u64,
    request: Request,
    data: Vec<u8>,
    beat: usize,
    response: Response,
}

/// The masters together with the design, advanced clock by clock.
pub struct Master {
    model: Model,
    throttle: Throttle,
    next: u64,
    moves: u64,
    /// Writes whose address is not accepted yet.
    write_addresses: VecDeque<Request>,
    /// Writes whose data is not fully accepted yet. Data may run ahead of its address.
    write_data: VecDeque<Write>,
    /// Writes without a response, in order per ID.
    write_responses: HashMap<u8, VecDeque<u64>>,
    writes_open: usize,
    most_outstanding: usize,
    written: HashMap<u64, Response>,
    forgotten: HashSet<u64>,
    read_addresses: VecDeque<Read>,
    read_responses: HashMap<u8, VecDeque<Read>>,
    reads_open: usize,
    read: HashMap<u64, (Response, Vec<u8>)>,
}

impl Master {
    /// Creates the design and resets it.
    pub fn new(variant: Variant) -> Self {
        Self {
            model: Model::new(variant),
            throttle: Throttle::Off,
            next: 0,
            moves: 0,
            write_addresses: VecDeque::new(),
            write_data: VecDeque::new(),
            write_responses: HashMap::new(),
            writes_open: 0,
            most_outstanding: 0,
            written: HashMap::new(),
            forgotten: HashSet::new(),
            read_addresses: VecDeque::new(),
            read_responses: HashMap::new(),
            reads_open: 0,
            read: HashMap::new(),
        }
    }

    /// Sets how often the master inserts idle clocks. The default is [`Throttle::Off`].
    pub fn set_throttle(&mut self, throttle: Throttle) {
        self.throttle = throttle;
    }

    /// Returns the design.
    pub fn model(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Returns the number of clocks since the last reset.
    pub fn cycles(&self) -> u64 {
        self.model.cycles()
    }

    /// Resets the design and the masters. Accesses in progress never get a response. Scratch memory keeps its contents.
    pub fn reset(&mut self) {
        self.model.reset();
        self.write_addresses.clear();
        self.write_data.clear();
        self.write_responses.clear();
        self.written.clear();
        self.forgotten.clear();
        self.read_addresses.clear();
        self.read_responses.clear();
        self.read.clear();
        (self.writes_open, self.reads_open) = (0, 0);
    }

    /// Returns the number of handshakes so far, on all five AXI4 channels. While it does not change, the port makes no progress.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Returns the level of the interrupt.
    pub fn irq(&self) -> bool {
        self.model.ports.irq != 0
    }

    /// Returns the number of queued writes that have no response yet.
    pub fn writes_open(&self) -> usize {
        self.writes_open
    }

    /// Returns the highest number of writes that were ever outstanding: address accepted, B pending.
    pub fn most_outstanding(&self) -> usize {
        self.most_outstanding
    }

    /// Queues a write of 1 to 4,096 bytes that does not cross a 4 KiB boundary.
    ///
    /// # Panics
    /// If the length is out of range or the burst crosses a 4 KiB boundary.
    pub fn write(&mut self, id: u8, address: u64, burst: Burst, data: &[u8]) -> WriteTag {
        assert_valid_burst(address, data.len());
        let tag = self.tag();
        self.write_addresses.push_back(Request { id, address, burst, len: data.len() });
        self.write_data.push_back(Write { address, data: data.to_vec(), beat: 0 });
        self.write_responses.entry(id).or_default().push_back(tag);
        self.writes_open += 1;
        WriteTag(tag)
    }

    /// Discards the response to this write. The write itself continues.
    pub fn forget(&mut self, tag: WriteTag) {
        if self.written.remove(&tag.0).is_none() {
            self.forgotten.insert(tag.0);
        }
    }

    /// Consumes the response to a write, if it has arrived.
    pub fn written(&mut self, tag: WriteTag) -> Option<Response> {
        self.written.remove(&tag.0)
    }

    /// Queues a read of 1 to 4,096 bytes that does not cross a 4 KiB boundary.
    ///
    /// # Panics
    /// If the length is out of range or the burst crosses a 4 KiB boundary.
    pub fn read(&mut self, id: u8, address: u64, burst: Burst, len: usize) -> ReadTag {
        assert_valid_burst(address, len);
        let tag = self.tag();
        let data = Vec::with_capacity(len);
        let request = Request { id, address, burst, len };
        self.read_addresses.push_back(Read { tag, request, data, beat: 0, response: Response::Okay });
        self.reads_open += 1;
        ReadTag(tag)
    }

    /// Consumes the response and the data of a read, if it has completed.
    pub fn read_done(&mut self, tag: ReadTag) -> Option<(Response, Vec<u8>)> {
        self.read.remove(&tag.0)
    }

    /// Runs until something happens on a channel or the interrupt changes, for at most `max` clocks. Returns the number of clocks
    /// run.
    pub fn run(&mut self, max: u64) -> u64 {
        self.drive();
        let max = if self.throttle == Throttle::Off { max } else { max.min(1) };
        let done = self.model.run(max);
        self.collect();
        done
    }

    /// Runs exactly `clocks` clocks.
    pub fn idle(&mut self, mut clocks: u64) {
        while clocks > 0 {
            clocks -= self.run(clocks);
        }
    }

    /// Runs until all writes and reads have a response. Returns `false` if that takes more than `max` clocks.
    pub fn finish(&mut self, max: u64) -> bool {
        let end = self.cycles() + max;
        while self.writes_open + self.reads_open > 0 && self.cycles() < end {
            self.run(end - self.cycles());
        }
        self.writes_open + self.reads_open == 0
    }

    /// Reads a register. Other traffic continues in the meantime.
    ///
    /// # Panics
    /// If the design does not respond.
    pub fn register(&mut self, address: u32) -> u32 {
        self.model.ports.lite_araddr = address;
        self.model.ports.lite_arvalid = 1;
        for _ in 0..REGISTER_TIMEOUT {
            self.run(1);
            let ports = &mut self.model.ports;
            if ports.lite_arready != 0 {
                ports.lite_arvalid = 0;
            }
            if ports.lite_rvalid != 0 {
                assert_eq!(ports.lite_rresp, 0);
                return ports.lite_rdata;
            }
        }
        panic!("no response to the read of register {address:#x}");
    }

    /// Writes a register. Other traffic continues in the meantime.
    ///
    /// # Panics
    /// If the design does not respond.
    pub fn set_register(&mut self, address: u32, value: u32) {
        let ports = &mut self.model.ports;
        (ports.lite_awaddr, ports.lite_wdata) = (address, value);
        (ports.lite_awvalid, ports.lite_wvalid) = (1, 1);
        for _ in 0..REGISTER_TIMEOUT {
            self.run(1);
            let ports = &mut self.model.ports;
            if ports.lite_awready != 0 {
                ports.lite_awvalid = 0;
            }
            if ports.lite_wready != 0 {
                ports.lite_wvalid = 0;
            }
            if ports.lite_bvalid != 0 {
                assert_eq!(ports.lite_bresp, 0);
                return;
            }
        }
        panic!("no response to the write of register {address:#x}");
    }

    fn tag(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Returns whether the throttle makes a channel idle in this clock.
    fn throttled(&mut self) -> bool {
        let Throttle::Random(share, state) = &mut self.throttle else { return false };
        // Xorshift.
        let mut x = *state | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        *state = x;
        (x >> 32) as u8 <= *share
    }

    /// Sets the inputs. A valid signal stays set until its handshake.
    fn drive(&mut self) {
        let idle = [self.throttled(), self.throttled(), self.throttled(), self.throttled(), self.throttled()];
        let ports = &mut self.model.ports;
        ports.bready = !idle[0] as u8;
        ports.rready = !idle[1] as u8;
        let outstanding = self.writes_open - self.write_addresses.len();
        if ports.awvalid == 0
            && !idle[2]
            && outstanding < OUTSTANDING
            && ports.wr_full == 0
            && let Some(write) = self.write_addresses.front()
        {
            ports.awvalid = 1;
            ports.awid = write.id;
            ports.awaddr = write.address;
            ports.awlen = (beats(write.address, write.len) - 1) as u8;
            ports.awburst = (write.burst == Burst::Increment) as u8;
        }
        if ports.wvalid == 0
            && !idle[3]
            && let Some(write) = self.write_data.front()
        {
            ports.wvalid = 1;
            let (from, lane, count) = beat_part(write.address, write.data.len(), write.beat);
            if count < BEAT {
                ports.wdata = [0; BEAT];
            }
            ports.wdata[lane..lane + count].copy_from_slice(&write.data[from..from + count]);
            ports.wstrb = (u64::MAX >> (BEAT - count)) << lane;
            ports.wlast = (from + count == write.data.len()) as u8;
        }
        if ports.arvalid == 0
            && !idle[4]
            && self.reads_open - self.read_addresses.len() < OUTSTANDING
            && let Some(Read { request: read, .. }) = self.read_addresses.front()
        {
            ports.arvalid = 1;
            ports.arid = read.id;
            ports.araddr = read.address;
            ports.arlen = (beats(read.address, read.len) - 1) as u8;
            ports.arburst = (read.burst == Burst::Increment) as u8;
        }
    }

    /// Processes the handshakes of the last edge.
    fn collect(&mut self) {
        let ports = &mut self.model.ports;
        let moved = [
            ports.awvalid & ports.awready,
            ports.wvalid & ports.wready,
            ports.bvalid & ports.bready,
            ports.arvalid & ports.arready,
            ports.rvalid & ports.rready,
        ];
        self.moves += moved.map(u64::from).iter().sum::<u64>();
        if ports.awvalid & ports.awready != 0 {
            ports.awvalid = 0;
            self.write_addresses.pop_front();
            let outstanding = self.writes_open - self.write_addresses.len();
            self.most_outstanding = self.most_outstanding.max(outstanding);
        }
        if ports.wvalid & ports.wready != 0 {
            ports.wvalid = 0;
            if ports.wlast != 0 {
                self.write_data.pop_front();
            } else if let Some(write) = self.write_data.front_mut() {
                write.beat += 1;
            }
        }
        if ports.bvalid & ports.bready != 0 {
            let queue = self.write_responses.get_mut(&ports.bid);
            let tag = queue.and_then(VecDeque::pop_front).expect("B belongs to a write with its ID");
            if !self.forgotten.remove(&tag) {
                self.written.insert(tag, Response::from_bits(ports.bresp));
            }
            self.writes_open -= 1;
        }
        if ports.arvalid & ports.arready != 0 {
            ports.arvalid = 0;
            if let Some(read) = self.read_addresses.pop_front() {
                self.read_responses.entry(read.request.id).or_default().push_back(read);
            }
        }
        if ports.rvalid & ports.rready != 0 {
            let queue = self.read_responses.get_mut(&ports.rid).expect("R belongs to a read with its ID");
            let read = queue.front_mut().expect("R belongs to a read with its ID");
            let (from, lane, count) = beat_part(read.request.address, read.request.len, read.beat);
            read.data.extend_from_slice(&ports.rdata[lane..lane + count]);
            read.beat += 1;
            if ports.rresp != 0 {
                read.response = Response::from_bits(ports.rresp);
            }
            assert_eq!(ports.rlast != 0, from + count == read.request.len, "RLAST marks the last beat");
            if ports.rlast != 0
                && let Some(read) = queue.pop_front()
            {
                self.read.insert(read.tag, (read.response, read.data));
                self.reads_open -= 1;
            }
        }
    }
}

fn assert_valid_burst(address: u64, len: usize) {
    assert!((1..=PAGE as usize).contains(&len), "a burst has 1 to 4,096 bytes");
    assert!(address % PAGE + len as u64 <= PAGE, "a burst does not cross a 4 KiB boundary");
}

fn beats(address: u64, len: usize) -> usize {
    ((address % BEAT as u64) as usize + len).div_ceil(BEAT)
}

/// Returns the part of a transfer in one beat: offset in the data, first byte lane, number of bytes. The lane is also right for
/// fixed bursts, which have whole beats.
fn beat_part(address: u64, len: usize, beat: usize) -> (usize, usize, usize) {
    let skew = (address % BEAT as u64) as usize;
    let from = (beat * BEAT).saturating_sub(skew);
    let lane = if beat == 0 { skew } else { 0 };
    (from, lane, (BEAT - lane).min(len - from))
}
