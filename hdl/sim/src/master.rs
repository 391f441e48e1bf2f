//! An AXI4 master and an AXI-Lite master before the design.

use crate::{Model, Variant};
use std::collections::{HashMap, HashSet, VecDeque};

/// Bytes of a beat.
const BEAT: usize = 64;
/// A burst does not cross a multiple of this.
const PAGE: u64 = 4096;
/// Bursts under way in each direction, as a card's shell allows.
pub const OUTSTANDING: usize = 32;
/// Clocks after which a register access that is not answered is a bug.
const PATIENCE: u64 = 10_000;

/// How the address of a burst moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// The same for every beat.
    Fixed,
    /// Beat after beat.
    Increment,
}

/// What the design answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// Done.
    Okay,
    /// Refused.
    SlaveError,
    /// Nothing at this address.
    DecodeError,
}

impl Response {
    fn of(bits: u8) -> Self {
        match bits {
            0 => Self::Okay,
            2 => Self::SlaveError,
            3 => Self::DecodeError,
            _ => panic!("the design answered EXOKAY, which nobody asked for"),
        }
    }
}

/// Names a write until its answer was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriteTag(u64);

/// Names a read until its answer was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadTag(u64);

/// How often the master idles where it need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Never.
    Full,
    /// On each channel in about this share of the clocks, in 1/256, by a generator that starts from this seed.
    Random(u8, u64),
}

/// What goes over an address channel.
struct Address {
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
    at: Address,
    data: Vec<u8>,
    beat: usize,
    response: Response,
}

/// The masters and the design, clock by clock.
pub struct Master {
    model: Model,
    pace: Pace,
    next: u64,
    moves: u64,
    /// Writes whose address was not taken.
    write_addresses: VecDeque<Address>,
    /// Writes whose data was not taken. Data may run ahead of its address.
    write_data: VecDeque<Write>,
    /// Writes without an answer, by ID in order.
    write_answers: HashMap<u8, VecDeque<u64>>,
    writes_open: usize,
    most_outstanding: usize,
    written: HashMap<u64, Response>,
    forgotten: HashSet<u64>,
    read_addresses: VecDeque<Read>,
    read_answers: HashMap<u8, VecDeque<Read>>,
    reads_open: usize,
    read: HashMap<u64, (Response, Vec<u8>)>,
}

impl Master {
    /// The design after its reset.
    pub fn new(variant: Variant) -> Self {
        Self {
            model: Model::new(variant),
            pace: Pace::Full,
            next: 0,
            moves: 0,
            write_addresses: VecDeque::new(),
            write_data: VecDeque::new(),
            write_answers: HashMap::new(),
            writes_open: 0,
            most_outstanding: 0,
            written: HashMap::new(),
            forgotten: HashSet::new(),
            read_addresses: VecDeque::new(),
            read_answers: HashMap::new(),
            reads_open: 0,
            read: HashMap::new(),
        }
    }

    /// Changes the pace.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// The design itself.
    pub fn model(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Clocks since the reset.
    pub fn cycles(&self) -> u64 {
        self.model.cycles()
    }

    /// The reset of the design and of the masters: what was under way is never answered. Scratch memory keeps its content.
    pub fn reset(&mut self) {
        self.model.reset();
        self.write_addresses.clear();
        self.write_data.clear();
        self.write_answers.clear();
        self.written.clear();
        self.forgotten.clear();
        self.read_addresses.clear();
        self.read_answers.clear();
        self.read.clear();
        (self.writes_open, self.reads_open) = (0, 0);
    }

    /// Addresses, beats and answers that moved so far, of writes and reads: if it stands still, so does the port.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Level of the interrupt.
    pub fn irq(&self) -> bool {
        self.model.ports.irq != 0
    }

    /// Writes that were handed over and are not answered.
    pub fn writes_open(&self) -> usize {
        self.writes_open
    }

    /// Most writes that were ever under way at once: address taken, B to come.
    pub fn most_outstanding(&self) -> usize {
        self.most_outstanding
    }

    /// Queues a write of 1 to 4,096 bytes that does not cross 4 KiB.
    ///
    /// # Panics
    /// If it is none.
    pub fn write(&mut self, id: u8, address: u64, burst: Burst, data: &[u8]) -> WriteTag {
        check(address, data.len());
        let tag = self.tag();
        self.write_addresses.push_back(Address { id, address, burst, len: data.len() });
        self.write_data.push_back(Write { address, data: data.to_vec(), beat: 0 });
        self.write_answers.entry(id).or_default().push_back(tag);
        self.writes_open += 1;
        WriteTag(tag)
    }

    /// Nobody will ask for the answer to this write.
    pub fn forget(&mut self, tag: WriteTag) {
        if self.written.remove(&tag.0).is_none() {
            self.forgotten.insert(tag.0);
        }
    }

    /// The answer to a write, once.
    pub fn written(&mut self, tag: WriteTag) -> Option<Response> {
        self.written.remove(&tag.0)
    }

    /// Queues a read of 1 to 4,096 bytes that does not cross 4 KiB.
    ///
    /// # Panics
    /// If it is none.
    pub fn read(&mut self, id: u8, address: u64, burst: Burst, len: usize) -> ReadTag {
        check(address, len);
        let tag = self.tag();
        let data = Vec::with_capacity(len);
        let at = Address { id, address, burst, len };
        self.read_addresses.push_back(Read { tag, at, data, beat: 0, response: Response::Okay });
        self.reads_open += 1;
        ReadTag(tag)
    }

    /// The answer to a read, once.
    pub fn read_done(&mut self, tag: ReadTag) -> Option<(Response, Vec<u8>)> {
        self.read.remove(&tag.0)
    }

    /// Clocks until something happens on a channel or at the interrupt, `max` at most. Returns how many there were.
    pub fn run(&mut self, max: u64) -> u64 {
        self.drive();
        let max = if self.pace == Pace::Full { max } else { max.min(1) };
        let done = self.model.run(max);
        self.collect();
        done
    }

    /// Clocks, exactly that many.
    pub fn idle(&mut self, mut clocks: u64) {
        while clocks > 0 {
            clocks -= self.run(clocks);
        }
    }

    /// Clocks until all writes and reads are answered; `false` if that takes more than `max`.
    pub fn finish(&mut self, max: u64) -> bool {
        let end = self.cycles() + max;
        while self.writes_open + self.reads_open > 0 && self.cycles() < end {
            self.run(end - self.cycles());
        }
        self.writes_open + self.reads_open == 0
    }

    /// Reads a register; other traffic goes on meanwhile.
    ///
    /// # Panics
    /// If the design does not answer.
    pub fn register(&mut self, address: u32) -> u32 {
        self.model.ports.lite_araddr = address;
        self.model.ports.lite_arvalid = 1;
        for _ in 0..PATIENCE {
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
        panic!("no answer to a read of register {address:#x}");
    }

    /// Writes a register; other traffic goes on meanwhile.
    ///
    /// # Panics
    /// If the design does not answer.
    pub fn set_register(&mut self, address: u32, value: u32) {
        let ports = &mut self.model.ports;
        (ports.lite_awaddr, ports.lite_wdata) = (address, value);
        (ports.lite_awvalid, ports.lite_wvalid) = (1, 1);
        for _ in 0..PATIENCE {
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
        panic!("no answer to a write of register {address:#x}");
    }

    fn tag(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether a channel idles in this clock though it need not.
    fn idles(&mut self) -> bool {
        let Pace::Random(share, state) = &mut self.pace else { return false };
        // Xorshift.
        let mut x = *state | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        *state = x;
        (x >> 32) as u8 <= *share
    }

    /// Sets the inputs. What is valid stays so until it was taken.
    fn drive(&mut self) {
        let idle = [self.idles(), self.idles(), self.idles(), self.idles(), self.idles()];
        let ports = &mut self.model.ports;
        ports.bready = !idle[0] as u8;
        ports.rready = !idle[1] as u8;
        let answered_later = self.writes_open - self.write_addresses.len();
        if ports.awvalid == 0
            && !idle[2]
            && answered_later < OUTSTANDING
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
            let (from, lane, count) = part(write.address, write.data.len(), write.beat);
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
            && let Some(Read { at: read, .. }) = self.read_addresses.front()
        {
            ports.arvalid = 1;
            ports.arid = read.id;
            ports.araddr = read.address;
            ports.arlen = (beats(read.address, read.len) - 1) as u8;
            ports.arburst = (read.burst == Burst::Increment) as u8;
        }
    }

    /// Takes what moved at the edge.
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
            let queue = self.write_answers.get_mut(&ports.bid);
            let tag = queue.and_then(VecDeque::pop_front).expect("B only for a write of its ID");
            if !self.forgotten.remove(&tag) {
                self.written.insert(tag, Response::of(ports.bresp));
            }
            self.writes_open -= 1;
        }
        if ports.arvalid & ports.arready != 0 {
            ports.arvalid = 0;
            if let Some(read) = self.read_addresses.pop_front() {
                self.read_answers.entry(read.at.id).or_default().push_back(read);
            }
        }
        if ports.rvalid & ports.rready != 0 {
            let queue = self.read_answers.get_mut(&ports.rid).expect("R only for a read of its ID");
            let read = queue.front_mut().expect("R only for a read of its ID");
            let (from, lane, count) = part(read.at.address, read.at.len, read.beat);
            read.data.extend_from_slice(&ports.rdata[lane..lane + count]);
            read.beat += 1;
            if ports.rresp != 0 {
                read.response = Response::of(ports.rresp);
            }
            assert_eq!(ports.rlast != 0, from + count == read.at.len, "RLAST at the last beat");
            if ports.rlast != 0
                && let Some(read) = queue.pop_front()
            {
                self.read.insert(read.tag, (read.response, read.data));
                self.reads_open -= 1;
            }
        }
    }
}

fn check(address: u64, len: usize) {
    assert!((1..=PAGE as usize).contains(&len), "a burst has 1 to 4,096 bytes");
    assert!(address % PAGE + len as u64 <= PAGE, "a burst does not cross 4 KiB");
}

fn beats(address: u64, len: usize) -> usize {
    ((address % BEAT as u64) as usize + len).div_ceil(BEAT)
}

/// Of a transfer's beat: offset in the data, first byte lane, bytes. In a fixed burst the lanes do not matter: it has whole beats.
fn part(address: u64, len: usize, beat: usize) -> (usize, usize, usize) {
    let skew = (address % BEAT as u64) as usize;
    let from = (beat * BEAT).saturating_sub(skew);
    let lane = if beat == 0 { skew } else { 0 };
    (from, lane, (BEAT - lane).min(len - from))
}
