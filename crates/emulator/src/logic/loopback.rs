//! A stream that comes back.

use super::{Answer, Burst, Logic, Shell};
use crate::log::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};
use vm_memory::VolatileSlice;
use xdma_regs::MAX_CHANNELS;

/// AXI-Stream loopback: what H2C channel n sends, C2H channel n receives, packet by packet, through a FIFO that pushes back
/// when it is full. The AXI port answers DECERR, user BARs read 0.
pub struct Loopback {
    fifos: [Mutex<Fifo>; MAX_CHANNELS],
    shell: OnceLock<Arc<dyn Shell>>,
}

impl Loopback {
    /// Bytes of each FIFO made with [`Loopback::new`].
    pub const DEFAULT_DEPTH: usize = 64 << 10;

    /// FIFOs of [`Loopback::DEFAULT_DEPTH`] bytes.
    pub fn new() -> Self {
        Self::with_depth(Self::DEFAULT_DEPTH)
    }

    /// FIFOs of `depth` bytes, at least one.
    pub fn with_depth(depth: usize) -> Self {
        let fifo = |_| Mutex::new(Fifo::new(depth.max(1)));
        Self { fifos: std::array::from_fn(fifo), shell: OnceLock::new() }
    }

    /// Lets whoever waits go on, if something moved.
    fn report(&self, answer: Answer) -> Answer {
        if let (Answer::Okay(_), Some(shell)) = (answer, self.shell.get()) {
            shell.progress();
        }
        answer
    }
}

impl Default for Loopback {
    fn default() -> Self {
        Self::new()
    }
}

/// A ring of bytes that knows where packets end.
struct Fifo {
    bytes: Box<[u8]>,
    /// Bytes ever written and read.
    written: u64,
    read: u64,
    /// Values of `written` at the ends of packets that are not read yet.
    ends: VecDeque<u64>,
}

impl Fifo {
    fn new(depth: usize) -> Self {
        Self { bytes: vec![0; depth].into(), written: 0, read: 0, ends: VecDeque::new() }
    }

    fn filled(&self) -> usize {
        (self.written - self.read) as usize
    }

    /// The part of the ring from `position` that is contiguous, `len` bytes at most.
    fn span(&mut self, position: u64, len: usize) -> &mut [u8] {
        let at = (position % self.bytes.len() as u64) as usize;
        let end = self.bytes.len().min(at + len);
        &mut self.bytes[at..end]
    }

    fn push(&mut self, data: &VolatileSlice<'_>, last: bool) -> Answer {
        let n = data.len().min(self.bytes.len() - self.filled());
        if n == 0 {
            return Answer::Wait;
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
        Answer::Okay(n)
    }

    fn pop(&mut self, data: &VolatileSlice<'_>) -> (Answer, bool) {
        let packet = self.ends.front().map_or(self.filled(), |end| (end - self.read) as usize);
        let n = data.len().min(packet);
        if n == 0 {
            return (Answer::Wait, false);
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
        (Answer::Okay(n), last)
    }
}

impl Logic for Loopback {
    fn attach(&self, shell: Arc<dyn Shell>) {
        // A loopback has one card: the first.
        let _ = self.shell.set(shell);
    }

    fn write(&self, _channel: usize, _address: u64, _burst: Burst, _data: &VolatileSlice) -> Answer {
        Answer::DecodeError
    }

    fn read(&self, _channel: usize, _address: u64, _burst: Burst, _data: &VolatileSlice) -> Answer {
        Answer::DecodeError
    }

    fn stream_in(&self, channel: usize, data: &VolatileSlice, last: bool) -> Answer {
        let answer = lock(&self.fifos[channel]).push(data, last);
        self.report(answer)
    }

    fn stream_out(&self, channel: usize, data: &VolatileSlice) -> (Answer, bool) {
        let (answer, last) = lock(&self.fifos[channel]).pop(data);
        (self.report(answer), last)
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
    fn packets_keep_their_ends_around_the_ring() {
        let mut fifo = Fifo::new(10);
        let mut out = [0; 16];
        for round in 0..20u8 {
            let mut packet = [round, round + 1, round + 2];
            assert_eq!(fifo.push(&VolatileSlice::from(&mut packet[..]), true), Answer::Okay(3));
            assert_eq!(fifo.push(&VolatileSlice::from(&mut packet[..]), true), Answer::Okay(3));
            for _ in 0..2 {
                assert_eq!(fifo.pop(&VolatileSlice::from(&mut out[..])), (Answer::Okay(3), true));
                assert_eq!(out[..3], packet);
            }
        }
        assert_eq!(fifo.pop(&VolatileSlice::from(&mut out[..])), (Answer::Wait, false));
    }

    #[test]
    fn a_full_fifo_pushes_back() {
        let mut fifo = Fifo::new(8);
        let mut data = [7; 12];
        assert_eq!(fifo.push(&VolatileSlice::from(&mut data[..]), true), Answer::Okay(8));
        assert_eq!(fifo.push(&VolatileSlice::from(&mut data[8..]), true), Answer::Wait);
        assert_eq!(fifo.pop(&VolatileSlice::from(&mut data[..4])), (Answer::Okay(4), false));
        assert_eq!(fifo.push(&VolatileSlice::from(&mut data[8..]), true), Answer::Okay(4));
        let mut out = [0; 12];
        assert_eq!(fifo.pop(&VolatileSlice::from(&mut out[..])), (Answer::Okay(8), true));
    }
}
