//! Copying data to and from card addresses through two buffers: while the card transfers one, a thread fills or drains the other.

use crate::failure::{self, Failure};
use crate::interrupt::{CHECK_INTERVAL, Interrupt};
use anyhow::{Context, Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::{EngineError, InvalidTransfer, Pool, WaitError};
use xdma::memory::Buffer;

/// Number of buffers.
const BUFFERS: usize = 2;
/// Size in bytes of the blocks that are compared by digest.
const BLOCK: usize = 64 << 10;

/// Number of bytes that are copied out of a buffer at a time: a multiple of [`BLOCK`].
const PART: usize = 16 * BLOCK;

/// Digests of consecutive blocks, for comparing data that is no longer in memory: 128 KiB for each GiB.
pub type Digests = Vec<u64>;

/// A filled buffer, the number of bytes in it, and the digests of its blocks.
type Filled = (Buffer, u64, Digests);

/// Copies data between the host and card addresses.
pub struct Copier<'a> {
    pub card: &'a Card,
    pub interrupt: &'a Interrupt,
    /// Size of each buffer in bytes, a multiple of the block size.
    pub buffer: u64,
    /// Time limit for the transfer of a buffer.
    pub limit: Duration,
    /// Hint to append to the error of a failed transfer.
    pub hint: &'static str,
}

/// Rounds `bytes` up to a whole number of blocks, at least one.
pub fn whole_blocks(bytes: u64) -> u64 {
    bytes.clamp(1, 1 << 40).next_multiple_of(BLOCK as u64)
}

/// Creates a progress bar that shows the throughput, on standard error if it is a terminal.
pub fn progress(what: &str, bytes: Option<u64>) -> ProgressBar {
    let style = match bytes {
        Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{msg} {spinner} {bytes} {bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr());
    bar.with_style(style).with_message(what.to_owned())
}

impl Copier<'_> {
    /// Copies all of `input` to card addresses from `address` on. Returns the number of bytes and their digests.
    pub fn send(
        &self,
        pool: &mut Pool,
        address: u64,
        input: impl Read + Send + 'static,
        bar: &ProgressBar,
    ) -> Result<(u64, Digests)> {
        let ((empty, to_fill), (filled, full)) = (channel(), channel());
        for buffer in self.buffers(pool)? {
            // The receiver still exists, so sending cannot fail.
            let _ = empty.send(buffer);
        }
        thread::spawn(move || fill(input, &to_fill, &filled));
        let (mut sent, mut digests) = (0, vec![]);
        while let Some(filled) = self.interrupt.receive(&full)? {
            let (buffer, len, new) = filled.context("cannot read the input")?;
            self.transfer(pool, &buffer, len, at(address, sent)?)?;
            digests.extend(new);
            sent += len;
            bar.inc(len);
            // At the end of the input, the thread has ended.
            let _ = empty.send(buffer);
        }
        Ok((sent, digests))
    }

    /// Copies `length` bytes from card addresses from `address` on, and passes them to `sink` in order.
    pub fn fetch(
        &self,
        pool: &mut Pool,
        address: u64,
        length: u64,
        sink: impl FnMut(&[u8]) -> Result<()> + Send + 'static,
        bar: &ProgressBar,
    ) -> Result<()> {
        let ((full, to_drain), (drained, empty)) = (channel(), channel());
        for buffer in self.buffers(pool)? {
            // The receiver still exists, so sending cannot fail.
            let _ = drained.send(Ok(buffer));
        }
        thread::spawn(move || drain(sink, &to_drain, &drained));
        let mut fetched = 0;
        let returned =
            || self.interrupt.receive(&empty).map_err(Error::from)?.context("the output thread has ended")?;
        while fetched < length {
            let buffer = returned()?;
            let len = self.buffer.min(length - fetched);
            self.transfer(pool, &buffer, len, at(address, fetched)?)?;
            fetched += len;
            bar.inc(len);
            // If the thread has ended, its error is received above or below.
            let _ = full.send((buffer, len));
        }
        // All buffers are returned once everything is drained.
        (0..BUFFERS).try_for_each(|_| returned().map(drop))
    }

    fn buffers(&self, pool: &Pool) -> Result<Vec<Buffer>> {
        let buffers = (0..BUFFERS).map(|_| self.card.allocate(self.buffer, pool.direction()));
        buffers.collect::<Result<_, _>>().context("cannot allocate buffers")
    }

    /// Transfers one buffer in the direction of `pool`.
    fn transfer(&self, pool: &mut Pool, buffer: &Buffer, len: u64, address: u64) -> Result<()> {
        let context = || format!("cannot transfer {len:#x} bytes at card address {address:#x}{}", self.hint);
        let ticket = pool.submit(buffer, 0..len, address).with_context(context)?;
        let begin = Instant::now();
        loop {
            match pool.wait(ticket, CHECK_INTERVAL.min(self.limit)) {
                Err(WaitError::Deadline { .. }) if self.interrupt.check().is_err() => {
                    pool.stop().context("interrupted, but the card is still busy")?;
                    return Err(Failure::Interrupted.into());
                }
                Err(WaitError::Deadline { .. }) if begin.elapsed() < self.limit => {}
                Err(WaitError::Deadline { snapshot, .. }) => {
                    let late = WaitError::Deadline { waited: self.limit, snapshot };
                    return Err(timeout(Error::new(late).context(context()), pool.stop()));
                }
                moved => return moved.with_context(context),
            }
        }
    }
}

/// Returns the error of a transfer that timed out, which includes the error of stopping it, if that failed too.
fn timeout(late: Error, stopped: Result<(), EngineError>) -> Error {
    match stopped {
        Ok(()) => late,
        Err(stop) => {
            let (late, stop) = (failure::text(&late), failure::text(&stop.into()));
            Failure::NotStopped { late, stop }.into()
        }
    }
}

fn at(address: u64, offset: u64) -> Result<u64, InvalidTransfer> {
    address.checked_add(offset).ok_or(InvalidTransfer::CardAddress { address, len: offset })
}

/// Fills buffers from `input` until it ends. At the end it drops the sender.
fn fill(mut input: impl Read, empty: &Receiver<Buffer>, full: &Sender<io::Result<Filled>>) {
    for mut buffer in empty {
        let filled = fill_one(&mut input, &mut buffer);
        if matches!(filled, Ok((0, _))) {
            return;
        }
        let failed = filled.is_err();
        // After Ctrl-C the receiver is gone.
        if full.send(filled.map(|(len, digests)| (buffer, len, digests))).is_err() || failed {
            return;
        }
    }
}

fn fill_one(input: &mut impl Read, buffer: &mut Buffer) -> io::Result<(u64, Digests)> {
    let bytes = buffer.as_mut_slice::<u8>().map_err(io::Error::other)?;
    let mut len = 0;
    while len < bytes.len() {
        match input.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((len as u64, bytes[..len].chunks(BLOCK).map(digest).collect()))
}

/// Drains buffers into `sink` until there are no more, or `sink` fails.
fn drain(
    mut sink: impl FnMut(&[u8]) -> Result<()>,
    full: &Receiver<(Buffer, u64)>,
    empty: &Sender<Result<Buffer>>,
) {
    let mut bytes = vec![0; PART];
    for (buffer, len) in full {
        let drained = drain_one(&mut sink, &buffer, len, &mut bytes);
        let failed = drained.is_err();
        // After Ctrl-C the receiver is gone.
        if empty.send(drained.map(|()| buffer)).is_err() || failed {
            return;
        }
    }
}

/// A reader that sends the digest of each block of its input before it returns the last byte of the block.
pub struct HashingReader<R> {
    input: R,
    block: Vec<u8>,
    digests: Sender<u64>,
}

impl<R> HashingReader<R> {
    pub fn new(input: R, digests: Sender<u64>) -> Self {
        Self { input, block: vec![], digests }
    }

    fn end_block(&mut self) {
        // If nothing is compared, the receiver is gone.
        let _ = self.digests.send(digest(&self.block));
        self.block.clear();
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = bytes.len().min(BLOCK - self.block.len());
        let read = self.input.read(&mut bytes[..most])?;
        self.block.extend_from_slice(&bytes[..read]);
        let ends = self.block.len() == BLOCK || read == 0 && most > 0 && !self.block.is_empty();
        if ends {
            self.end_block();
        }
        Ok(read)
    }
}

/// Compares received data with the digests of the sent data. A difference is stored and does not end the comparison, because the
/// rest of the data must still be received.
pub struct Verifier {
    expected: Receiver<u64>,
    block: Vec<u8>,
    /// Number of bytes in the blocks compared so far.
    compared: u64,
    first_difference: Option<Range<u64>>,
}

impl Verifier {
    pub fn new(expected: Receiver<u64>) -> Self {
        Self { expected, block: vec![], compared: 0, first_difference: None }
    }

    /// Compares the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = rest;
            if self.block.len() == BLOCK {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        let block = self.compared..self.compared + self.block.len() as u64;
        // A digest is available before its block can be received.
        if self.expected.try_recv() != Ok(digest(&self.block)) {
            self.first_difference.get_or_insert(block.clone());
        }
        self.block.clear();
        self.compared = block.end;
    }

    /// Ends the comparison. Fails if the bytes or the lengths of the packets differ.
    pub fn check(mut self, sent: &[u64], received: &[u64]) -> Result<()> {
        if !self.block.is_empty() {
            self.end_block();
        }
        if let Some(block) = self.first_difference {
            return Err(Failure::StreamMismatch(block).into());
        }
        match sent.iter().zip(received).position(|(sent, received)| sent != received) {
            Some(at) => {
                let (packet, sent, received) = (at + 1, sent[at], received[at]);
                Err(Failure::PacketMismatch { packet, sent, received }.into())
            }
            None if self.expected.try_recv().is_ok() => {
                Err(Failure::StreamMismatch(self.compared..self.compared).into())
            }
            None => Ok(()),
        }
    }
}

fn drain_one(
    sink: &mut impl FnMut(&[u8]) -> Result<()>,
    buffer: &Buffer,
    len: u64,
    bytes: &mut [u8],
) -> Result<()> {
    for start in (0..len).step_by(PART) {
        let part = &mut bytes[..PART.min((len - start) as usize)];
        buffer.read(start, part)?;
        sink(part)?;
    }
    Ok(())
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Returns a sink that compares data with the digests of the data sent to card addresses from `address` on. The error of a
/// mismatch includes `hint`.
pub fn compare(
    address: u64,
    digests: Digests,
    hint: &'static str,
) -> impl FnMut(&[u8]) -> Result<()> + Send + 'static {
    let mut expected = digests.into_iter();
    let mut start = address;
    move |bytes| {
        for block in bytes.chunks(BLOCK) {
            let range: Range<u64> = start..start + block.len() as u64;
            if expected.next() != Some(digest(block)) {
                return Err(Failure::Mismatch(range, hint).into());
            }
            start = range.end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_different_block_is_reported() {
        let data: Vec<u8> = (0..3 * BLOCK + 5).map(|at| (at / 7) as u8).collect();
        let digests: Digests = data.chunks(BLOCK).map(digest).collect();
        let mut sink = compare(0x1003, digests.clone(), "");
        // All buffers but the last hold whole blocks.
        sink(&data[..2 * BLOCK]).and_then(|()| sink(&data[2 * BLOCK..])).unwrap();
        for byte in [0, BLOCK + 1, 3 * BLOCK + 4] {
            let mut wrong = data.clone();
            wrong[byte] ^= 0x10;
            let error = compare(0x1003, digests.clone(), "")(&wrong).unwrap_err();
            let Some(Failure::Mismatch(range, _)) = error.downcast_ref() else { panic!("{error}") };
            let first = 0x1003 + (byte / BLOCK * BLOCK) as u64;
            assert_eq!(*range, first..(first + BLOCK as u64).min(0x1003 + data.len() as u64));
        }
    }

    #[test]
    fn received_data_is_compared_whatever_its_packets() {
        let data: Vec<u8> = (0..3 * BLOCK + 5).map(|at| (at / 7) as u8).collect();
        let pass = |back: &[u8], received: &[u64]| {
            let (digests, expected) = channel();
            let mut reader = HashingReader::new(io::Cursor::new(data.clone()), digests);
            let (mut sent, mut part) = (vec![], [0; 1000]);
            while let read @ 1.. = reader.read(&mut part).unwrap() {
                sent.extend_from_slice(&part[..read]);
            }
            assert!(sent == data);
            let mut verifier = Verifier::new(expected);
            back.chunks(777).for_each(|part| verifier.push(part));
            verifier.check(&[100, 200], received)
        };
        pass(&data, &[100, 200]).unwrap();
        let error = pass(&data, &[100, 199]).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Failure::PacketMismatch { packet: 2, .. })), "{error}");
        for byte in [0, BLOCK, 3 * BLOCK + 4] {
            let mut wrong = data.clone();
            wrong[byte] ^= 1;
            let error = pass(&wrong, &[100, 200]).unwrap_err();
            let Some(Failure::StreamMismatch(block)) = error.downcast_ref() else { panic!("{error}") };
            assert_eq!(block.start, (byte / BLOCK * BLOCK) as u64);
        }
        for wrong in [&data[1..], &data[..data.len() - 1], &[]] {
            assert!(pass(wrong, &[100, 200]).is_err());
        }
    }

    #[test]
    fn buffers_hold_whole_blocks() {
        assert_eq!([0, 1, 65536, 65537, u64::MAX].map(whole_blocks), [65536, 65536, 65536, 131072, 1 << 40]);
    }
}
