//! Streams of bytes to and from the card, through two buffers: while the card has one, a thread fills or empties the other.

use crate::failure::{self, Failure};
use crate::interrupt::{Interrupt, PATIENCE};
use anyhow::{Context, Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::{EngineError, Pool};
use xdma::memory::Buffer;

/// Buffers on the way.
const BUFFERS: usize = 2;
/// Bytes of which one digest is kept.
const BLOCK: usize = 64 << 10;

/// Bytes that are copied out of a buffer at a time: whole blocks.
const PART: usize = 16 * BLOCK;

/// Digests of blocks, in order: what is needed to know data again that is no longer there. 128 KiB for each GiB.
pub type Digests = Vec<u64>;

/// A filled buffer: how many bytes, and the digests of its blocks.
type Filled = (Buffer, u64, Digests);

/// How bytes are moved.
pub struct Stream<'a> {
    pub card: &'a Card,
    pub interrupt: &'a Interrupt,
    /// Bytes of a buffer, a multiple of a block.
    pub buffer: u64,
    /// How long the card may take for one.
    pub limit: Duration,
    /// What is good to know when it fails.
    pub hint: &'static str,
}

/// A whole number of blocks of at least `bytes`.
pub fn whole_blocks(bytes: u64) -> u64 {
    bytes.clamp(1, 1 << 40).next_multiple_of(BLOCK as u64)
}

/// A bar with the throughput, on standard error if that is a terminal.
pub fn progress(what: &str, bytes: Option<u64>) -> ProgressBar {
    let style = match bytes {
        Some(_) => "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{msg} {spinner} {bytes} {bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr());
    bar.with_style(style).with_message(what.to_owned())
}

impl Stream<'_> {
    /// Moves all of `input` to card addresses from `address` on. How many bytes, and their digests.
    pub fn send(
        &self,
        pool: &mut Pool,
        address: u64,
        input: impl Read + Send + 'static,
        bar: &ProgressBar,
    ) -> Result<(u64, Digests)> {
        let ((empty, to_fill), (filled, full)) = (channel(), channel());
        for buffer in self.buffers(pool)? {
            // The receiver is still here.
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
            // The thread has gone at the end of the input.
            let _ = empty.send(buffer);
        }
        Ok((sent, digests))
    }

    /// Moves `length` bytes from card addresses from `address` on, and gives them to `sink` in order.
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
            // The receiver is still here.
            let _ = drained.send(Ok(buffer));
        }
        thread::spawn(move || drain(sink, &to_drain, &drained));
        let mut fetched = 0;
        let returned = || self.interrupt.receive(&empty).map_err(Error::from)?.context("the sink is gone")?;
        while fetched < length {
            let buffer = returned()?;
            let len = self.buffer.min(length - fetched);
            self.transfer(pool, &buffer, len, at(address, fetched)?)?;
            fetched += len;
            bar.inc(len);
            // A thread that has gone has said why.
            let _ = full.send((buffer, len));
        }
        // All buffers come back when everything is drained.
        (0..BUFFERS).try_for_each(|_| returned().map(drop))
    }

    fn buffers(&self, pool: &Pool) -> Result<Vec<Buffer>> {
        let buffers = (0..BUFFERS).map(|_| self.card.allocate(self.buffer, pool.direction()));
        buffers.collect::<Result<_, _>>().context("cannot allocate buffers")
    }

    /// One buffer, in either direction.
    fn transfer(&self, pool: &mut Pool, buffer: &Buffer, len: u64, address: u64) -> Result<()> {
        let context = || format!("cannot move {len:#x} bytes at card address {address:#x}{}", self.hint);
        let ticket = pool.submit(buffer, 0..len, address).with_context(context)?;
        let begin = Instant::now();
        loop {
            match pool.wait(ticket, PATIENCE.min(self.limit)) {
                Err(EngineError::Deadline { .. }) if self.interrupt.check().is_err() => {
                    pool.stop().context("interrupted, but the card goes on")?;
                    return Err(Failure::Interrupted.into());
                }
                Err(EngineError::Deadline { .. }) if begin.elapsed() < self.limit => {}
                Err(EngineError::Deadline { snapshot, .. }) => {
                    let late = EngineError::Deadline { waited: self.limit, snapshot };
                    return Err(late_and(Error::new(late).context(context()), pool.stop()));
                }
                moved => return moved.with_context(context),
            }
        }
    }
}

/// That a transfer took too long, and what came of stopping it.
fn late_and(late: Error, stopped: Result<(), EngineError>) -> Error {
    match stopped {
        Ok(()) => late,
        Err(after) => {
            let (late, after) = (failure::text(&late), failure::text(&after.into()));
            Failure::LateAndBusy { late, after }.into()
        }
    }
}

fn at(address: u64, offset: u64) -> Result<u64, EngineError> {
    address.checked_add(offset).ok_or(EngineError::CardAddress { address, len: offset })
}

/// Fills buffers from `input` until it ends.
fn fill(mut input: impl Read, empty: &Receiver<Buffer>, full: &Sender<io::Result<Filled>>) {
    for mut buffer in empty {
        let filled = fill_one(&mut input, &mut buffer);
        // The end is said by going away.
        if matches!(filled, Ok((0, _))) {
            return;
        }
        let failed = filled.is_err();
        // Nobody listens after Ctrl-C.
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

/// Empties buffers into `sink` until there are no more, or it fails.
fn drain(
    mut sink: impl FnMut(&[u8]) -> Result<()>,
    full: &Receiver<(Buffer, u64)>,
    empty: &Sender<Result<Buffer>>,
) {
    let mut bytes = vec![0; PART];
    for (buffer, len) in full {
        let drained = drain_one(&mut sink, &buffer, len, &mut bytes);
        let failed = drained.is_err();
        // Nobody listens after Ctrl-C.
        if empty.send(drained.map(|()| buffer)).is_err() || failed {
            return;
        }
    }
}

/// An input of which digests are sent, block by block, before a reader gets the last byte of the block.
pub struct Hashed<R> {
    input: R,
    block: Vec<u8>,
    digests: Sender<u64>,
}

impl<R> Hashed<R> {
    pub fn new(input: R, digests: Sender<u64>) -> Self {
        Self { input, block: vec![], digests }
    }

    fn end_block(&mut self) {
        // Without a comparison the receiver is gone.
        let _ = self.digests.send(digest(&self.block));
        self.block.clear();
    }
}

impl<R: Read> Read for Hashed<R> {
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

/// Compares what comes back with digests of what was sent, and remembers where it differs first: the rest is still to be
/// received.
pub struct Returned {
    expected: Receiver<u64>,
    block: Vec<u8>,
    /// Bytes of whole blocks.
    seen: u64,
    differs: Option<Range<u64>>,
}

impl Returned {
    pub fn new(expected: Receiver<u64>) -> Self {
        Self { expected, block: vec![], seen: 0, differs: None }
    }

    pub fn take(&mut self, mut bytes: &[u8]) {
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
        let block = self.seen..self.seen + self.block.len() as u64;
        // What comes back of a block was sent, so its digest is there already.
        if self.expected.try_recv() != Ok(digest(&self.block)) {
            self.differs.get_or_insert(block.clone());
        }
        self.block.clear();
        self.seen = block.end;
    }

    /// Fails if something else came back than packets of these lengths with these bytes.
    pub fn check(mut self, sent: &[u64], received: &[u64]) -> Result<()> {
        if !self.block.is_empty() {
            self.end_block();
        }
        if let Some(block) = self.differs {
            return Err(Failure::OtherBytes(block).into());
        }
        match sent.iter().zip(received).position(|(sent, received)| sent != received) {
            Some(at) => {
                let (packet, sent, received) = (at + 1, sent[at], received[at]);
                Err(Failure::OtherPacket { packet, sent, received }.into())
            }
            None if self.expected.try_recv().is_ok() => Err(Failure::OtherBytes(self.seen..self.seen).into()),
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

/// A sink that compares with what was sent to card addresses from `address` on, and says `hint` where it differs.
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
    fn the_block_that_differs_is_named() {
        let data: Vec<u8> = (0..3 * BLOCK + 5).map(|at| (at / 7) as u8).collect();
        let digests: Digests = data.chunks(BLOCK).map(digest).collect();
        let mut sink = compare(0x1003, digests.clone(), "");
        // Buffers hold whole blocks, but for the last one.
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
    fn what_comes_back_is_compared_however_it_is_cut() {
        let data: Vec<u8> = (0..3 * BLOCK + 5).map(|at| (at / 7) as u8).collect();
        let pass = |back: &[u8], received: &[u64]| {
            let (digests, expected) = channel();
            let mut hashed = Hashed::new(io::Cursor::new(data.clone()), digests);
            let (mut sent, mut part) = (vec![], [0; 1000]);
            while let read @ 1.. = hashed.read(&mut part).unwrap() {
                sent.extend_from_slice(&part[..read]);
            }
            assert!(sent == data);
            let mut returned = Returned::new(expected);
            back.chunks(777).for_each(|part| returned.take(part));
            returned.check(&[100, 200], received)
        };
        pass(&data, &[100, 200]).unwrap();
        let error = pass(&data, &[100, 199]).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Failure::OtherPacket { packet: 2, .. })), "{error}");
        for byte in [0, BLOCK, 3 * BLOCK + 4] {
            let mut wrong = data.clone();
            wrong[byte] ^= 1;
            let error = pass(&wrong, &[100, 200]).unwrap_err();
            let Some(Failure::OtherBytes(block)) = error.downcast_ref() else { panic!("{error}") };
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
