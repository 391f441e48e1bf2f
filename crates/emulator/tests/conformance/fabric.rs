//! Custom logic for tests: memory, address ranges that return errors or never answer, and streams fed by the test.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;
use xdma_emulator::logic::{AxiResponse, Burst, Logic, Shell};

/// Card addresses from here are answered with DECERR.
pub const DECODE_ERROR: u64 = 0xdec0_0000_0000;
/// Card addresses from here are answered with SLVERR.
pub const SLAVE_ERROR: u64 = 0x51e0_0000_0000;
/// Card addresses from here are not answered until [`Fabric::release`].
pub const HANGS: u64 = 0x4a49_0000_0000;
/// Card addresses from here accept and discard all writes, and read 0.
pub const SINK: u64 = 0x5190_0000_0000;
const RANGE: u64 = 0x10_0000_0000;

/// One AXI transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub write: bool,
    pub channel: usize,
    pub address: u64,
    pub fixed: bool,
    pub len: usize,
}

#[derive(Default)]
struct State {
    pages: BTreeMap<u64, Vec<u8>>,
    calls: Vec<Call>,
    /// Whether an access to [`HANGS`] has been made.
    hangs: bool,
    /// Whether [`HANGS`] answers now.
    released: bool,
    /// The stream data received: channel, bytes, TLAST.
    received: Vec<(usize, Vec<u8>, bool)>,
    /// The stream data to send on each channel. The flag is TLAST on the last byte.
    packets: HashMap<usize, VecDeque<(VecDeque<u8>, bool)>>,
    registers: HashMap<(usize, u64), u32>,
    resets: usize,
}

#[derive(Default)]
pub struct Fabric {
    state: Mutex<State>,
    shell: OnceLock<Arc<dyn Shell>>,
}

impl Fabric {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shell(&self) -> &Arc<dyn Shell> {
        self.shell.get().expect("the card attaches the shell before anything else")
    }

    pub fn peek(&self, address: u64, len: usize) -> Vec<u8> {
        let state = self.state();
        let byte = |at: u64| state.pages.get(&(at >> 12)).map_or(0, |page| page[at as usize & 0xfff]);
        (address..address + len as u64).map(byte).collect()
    }

    pub fn poke(&self, address: u64, bytes: &[u8]) {
        let mut state = self.state();
        for (at, byte) in (address..).zip(bytes) {
            let page = state.pages.entry(at >> 12).or_insert_with(|| vec![0; 0x1000]);
            page[at as usize & 0xfff] = *byte;
        }
    }

    /// Returns the AXI transfers so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Waits until an engine accesses [`HANGS`]. On a loaded machine a started engine may not have done so yet.
    pub fn await_hang(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.state().hangs {
            assert!(Instant::now() < end, "no engine accessed the address");
            std::thread::yield_now();
        }
    }

    /// Makes [`HANGS`] answer.
    pub fn release(&self) {
        self.state().released = true;
        self.shell().progress();
    }

    pub fn received(&self) -> Vec<(usize, Vec<u8>, bool)> {
        self.state().received.clone()
    }

    /// Offers a packet to C2H channel `channel`.
    pub fn send(&self, channel: usize, bytes: &[u8], last: bool) {
        self.state().packets.entry(channel).or_default().push_back((bytes.iter().copied().collect(), last));
        self.shell().progress();
    }

    pub fn user_irq(&self, line: usize, level: bool) {
        self.shell().user_irq(line, level);
    }

    pub fn resets(&self) -> usize {
        self.state().resets
    }

    pub fn register(&self, bar: usize, offset: u64) -> Option<u32> {
        self.state().registers.get(&(bar, offset)).copied()
    }

    /// Returns the response of an address, without its data.
    fn respond(&self, call: Call) -> AxiResponse {
        let mut state = self.state();
        let within = |start: u64| (start..start + RANGE).contains(&call.address);
        let answer = match () {
            () if within(DECODE_ERROR) => AxiResponse::DecodeError,
            () if within(SLAVE_ERROR) => AxiResponse::SlaveError,
            () if within(HANGS) && !state.released => {
                state.hangs = true;
                return AxiResponse::Wait;
            }
            () => AxiResponse::Okay(call.len),
        };
        state.calls.push(call);
        answer
    }
}

fn is_sink(address: u64) -> bool {
    (SINK..SINK + RANGE).contains(&address)
}

fn bytes_of(data: &VolatileSlice) -> Vec<u8> {
    let mut bytes = vec![0; data.len()];
    data.copy_to(&mut bytes[..]);
    bytes
}

impl Logic for Fabric {
    fn attach(&self, shell: Arc<dyn Shell>) {
        assert!(self.shell.set(shell).is_ok(), "attached twice");
    }

    fn write(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        let fixed = burst == Burst::Fixed;
        let answer = self.respond(Call { write: true, channel, address, fixed, len: data.len() });
        if let AxiResponse::Okay(_) = answer
            && !is_sink(address)
        {
            self.poke(address, &bytes_of(data));
        }
        answer
    }

    fn read(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        let fixed = burst == Burst::Fixed;
        let answer = self.respond(Call { write: false, channel, address, fixed, len: data.len() });
        if let AxiResponse::Okay(_) = answer {
            let bytes = if is_sink(address) { vec![0; data.len()] } else { self.peek(address, data.len()) };
            data.copy_from(&bytes[..]);
        }
        answer
    }

    fn stream_in(&self, channel: usize, data: &VolatileSlice, last: bool) -> AxiResponse {
        self.state().received.push((channel, bytes_of(data), last));
        AxiResponse::Okay(data.len())
    }

    fn stream_out(&self, channel: usize, data: &VolatileSlice) -> (AxiResponse, bool) {
        let mut state = self.state();
        let Some(packets) = state.packets.get_mut(&channel) else { return (AxiResponse::Wait, false) };
        let Some((bytes, last)) = packets.front_mut() else { return (AxiResponse::Wait, false) };
        let taken: Vec<u8> = bytes.drain(..bytes.len().min(data.len())).collect();
        let over = bytes.is_empty() && *last;
        if bytes.is_empty() {
            packets.pop_front();
        }
        data.copy_from(&taken[..]);
        (AxiResponse::Okay(taken.len()), over)
    }

    fn user_read(&self, bar: usize, offset: u64) -> u32 {
        self.register(bar, offset).unwrap_or(0)
    }

    fn user_write(&self, bar: usize, offset: u64, value: u32) {
        self.state().registers.insert((bar, offset), value);
    }

    fn reset(&self) {
        self.state().resets += 1;
    }
}
