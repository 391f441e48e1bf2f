//! AXI-Stream loopback.

use super::{AxiResponse, Burst, Logic, Shell};
use crate::log::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};
use vm_memory::VolatileSlice;
use xdma_regs::MAX_CHANNELS;

/// AXI-Stream loopback: C2H channel n receives what H2C channel n sends, packet by packet, through a FIFO that applies
/// backpressure when it is full. The AXI port answers DECERR, and user BARs read 0.
pub struct Loopback {
    fifos: [Mutex<Fifo>; MAX_CHANNELS],
    shell: OnceLock<Arc<dyn Shell>>,
}

impl Loopback {
    /// The depth in bytes of the FIFOs created by [`Loopback::new`].
    pub const DEFAULT_DEPTH: usize = 64 << 10;

    /// Creates a loopback with FIFOs of [`Loopback::DEFAULT_DEPTH`] bytes.
    pub fn new() -> Self {
        Self::with_depth(Self::DEFAULT_DEPTH)
    }

    /// Creates a loopback with FIFOs of `depth` bytes, at least one.
    pub fn with_depth(depth: usize) -> Self {
        let fifo = |_| Mutex::new(Fifo::new(depth.max(1)));
        Self { fifos: std::array::from_fn(fifo), shell: OnceLock::new() }
    }

    /// Notifies the shell of progress if data was moved. Returns the response unchanged.
    fn report(&self, response: AxiResponse) -> AxiResponse {
        if let (AxiResponse::Okay(_), Some(shell)) = (response, self.shell.get()) {
            shell.progress();
        }
        response
    }
}

impl Default for Loopback {
    fn default() -> Self {
        Self::new()
    }
}

/// A ring buffer that preserves packet boundaries.
struct Fifo {
    bytes: Box<[u8]>,
    /// The total number of bytes written and read.
    written: u64,
    read: u64,
    /// The values of `written` at the ends of packets that have not been read yet.
    ends: VecDeque<u64>,
}

impl Fifo {
    fn new(depth: usize) -> Self {
        Self { bytes: vec![0; depth].into(), written: 0, read: 0, ends: VecDeque::new() }
    }

    fn filled(&self) -> usize {
        (self.written - self.read) as usize
    }

    /// Returns the contiguous part of the ring from `position`, at most `len` bytes.
    fn span(&mut self, position: u64, len: usize) -> &mut [u8] {
        let at = (position % self.bytes.len() as u64) as usize;
        let end = self.bytes.len().min(at + len);
        &mut self.bytes[at..end]
    }

    fn push(&mut self, data: &VolatileSlice<'_>, last: bool) -> AxiResponse {
        let n = data.len().min(self.bytes.len() - self.filled());
        if n == 0 {
            return AxiResponse::Wait;
        }
        let mut done = 0;
        while done < n {
            let part = data.offset(done).expect("inside the data");
            done += part.copy_to(self.span(self.written + done as u64, n - done));
        }
        self.written += n as u64;
        if last && n == data.len() {
            self.ends.push_back(self.written);
        }
        AxiResponse::Okay(n)
    }

    fn pop(&mut self, data: &VolatileSlice<'_>) -> (AxiResponse, bool) {
        let packet = self.ends.front().map_or(self.filled(), |end| (end - self.read) as usize);
        let n = data.len().min(packet);
        if n == 0 {
            return (AxiResponse::Wait, false);
        }
        let mut done = 0;
        while done < n {
            let part = data.offset(done).expect("inside the data");
            let span = self.span(self.read + done as u64, n - done);
            part.copy_from(span);
            done += span.len();
        }
        self.read += n as u64;
        let last = self.ends.front() == Some(&self.read);
        if last {
            self.ends.pop_front();
        }
        (AxiResponse::Okay(n), last)
    }
}

impl Logic for Loopback {
    fn attach(&self, shell: Arc<dyn Shell>) {
        // A loopback serves only one card: the first shell stays attached.
        let _ = self.shell.set(shell);
    }

    fn write(&self, _channel: usize, _address: u64, _burst: Burst, _data: &VolatileSlice) -> AxiResponse {
        AxiResponse::DecodeError
    }

    fn read(&self, _channel: usize, _address: u64, _burst: Burst, _data: &VolatileSlice) -> AxiResponse {
        AxiResponse::DecodeError
    }

    fn stream_in(&self, channel: usize, data: &VolatileSlice, last: bool) -> AxiResponse {
        let response = lock(&self.fifos[channel]).push(data, last);
        self.report(response)
    }

    fn stream_out(&self, channel: usize, data: &VolatileSlice) -> (AxiResponse, bool) {
        let (response, last) = lock(&self.fifos[channel]).pop(data);
        (self.report(response), last)
    }

    fn user_read(&self, _bar: usize, _offset: u64) -> u32 {
        0
    }

    fn user_write(&self, _bar: usize, _offset: u64, _value: u32) {}

    fn reset(&self) {
        for fifo in &self.fifos {
            let mut fifo = lock(fifo);
            fifo.read = fifo.written;
            fifo.ends.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_boundaries_survive_wrapping() {
        let mut fifo = Fifo::new(10);
        let mut out = [0; 16];
        for round in 0..20u8 {
            let mut packet = [round, round + 1, round + 2];
            assert_eq!(fifo.push(&VolatileSlice::from(&mut packet[..]), true), AxiResponse::Okay(3));
            assert_eq!(fifo.push(&VolatileSlice::from(&mut packet[..]), true), AxiResponse::Okay(3));
            for _ in 0..2 {
                assert_eq!(fifo.pop(&VolatileSlice::from(&mut out[..])), (AxiResponse::Okay(3), true));
                assert_eq!(out[..3], packet);
            }
        }
        assert_eq!(fifo.pop(&VolatileSlice::from(&mut out[..])), (AxiResponse::Wait, false));
    }

    #[test]
    fn a_full_fifo_applies_backpressure() {
        let mut fifo = Fifo::new(8);
        let mut data = [7; 12];
        assert_eq!(fifo.push(&VolatileSlice::from(&mut data[..]), true), AxiResponse::Okay(8));
        assert_eq!(fifo.push(&VolatileSlice::from(&mut data[8..]), true), AxiResponse::Wait);
        assert_eq!(fifo.pop(&VolatileSlice::from(&mut data[..4])), (AxiResponse::Okay(4), false));
        assert_eq!(fifo.push(&VolatileSlice::from(&mut data[8..]), true), AxiResponse::Okay(4));
        let mut out = [0; 12];
        assert_eq!(fifo.pop(&VolatileSlice::from(&mut out[..])), (AxiResponse::Okay(8), true));
    }
}
