//! Packets to and from AXI-Stream channels.

use crate::failure::Failure;
use crate::interrupt::{Interrupt, PATIENCE};
use crate::number;
use crate::stream::{Hashed, Returned};
use anyhow::{Context, Error, Result, anyhow};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::stream::{Discard, Discarded, Receiver, ReceiverOptions, Sender};
use xdma::channel::{Channel, ChannelOptions, EngineError, Ring};
use xdma::regs::Direction;

/// Buffers that a receiver fills by turns.
const BUFFERS: usize = 4;
/// Most bytes of a buffer.
pub const MOST: u64 = 64 << 20;
/// Most time that old data is dropped for.
const DISCARD_LIMIT: Duration = Duration::from_secs(10);

/// How packets are moved.
pub struct Packets<'a> {
    pub card: &'a Card,
    pub interrupt: &'a Interrupt,
    pub channel: usize,
    /// Bytes of a buffer, a multiple of 64, [`MOST`] at most.
    pub buffer: u64,
    /// How long the stream may take for one.
    pub limit: Duration,
    /// Whether a thread has failed, so that the other one ends too instead of waiting for what cannot come.
    pub failed: AtomicBool,
}

/// What is to be received.
pub struct Incoming<S> {
    /// How many packets come.
    pub packets: usize,
    /// How long nothing has to come until what comes is not old any more; `None` takes everything.
    pub discard: Option<Duration>,
    /// What takes their bytes, in order.
    pub sink: S,
}

/// What was moved.
pub struct Moved {
    direction: Direction,
    channel: usize,
    ring: Ring,
    /// Bytes of each packet.
    pub lengths: Vec<u64>,
    begin: Instant,
    took: Duration,
    /// What was dropped before.
    discarded: Discarded,
    /// Whether it was compared with what was sent; `None` if there was nothing to compare it with.
    pub compared: Option<bool>,
}

impl Moved {
    fn begin(channel: &Channel) -> Self {
        let (direction, ring, channel) = (channel.direction(), channel.ring(), channel.index());
        let (begin, took, discarded) = (Instant::now(), Duration::ZERO, Discarded::default());
        Self { direction, channel, ring, lengths: vec![], begin, took, discarded, compared: None }
    }

    fn end(self) -> Self {
        Self { took: self.begin.elapsed(), ..self }
    }

    fn bytes(&self) -> u64 {
        self.lengths.iter().sum()
    }

    fn object(&self, card: &str) -> Value {
        json!({
            "card": card,
            "direction": self.direction.to_string(),
            "channel": self.channel,
            "ring": self.ring.to_string(),
            "bytes": self.bytes(),
            "packets": self.lengths,
            "seconds": self.took.as_secs_f64(),
            "bytes_per_second": self.bytes() as f64 / self.took.as_secs_f64(),
            "verified": self.compared.filter(|&compared| compared),
            "discarded_bytes": self.discarded.bytes,
            "discarded_packets": self.discarded.packets,
        })
    }

    fn text(&self) -> String {
        format!(
            "{} {} in {} over {} channel {}, {:.1} ms{}{}",
            if self.direction == Direction::H2C { "sent" } else { "received" },
            number::bytes(self.bytes()),
            match self.lengths.len() {
                1 => "1 packet".into(),
                count => format!("{count} packets"),
            },
            self.direction,
            self.channel,
            self.took.as_secs_f64() * 1e3,
            match self.compared {
                Some(true) => "; the same came back",
                Some(false) => "; not compared",
                None => "",
            },
            match self.discarded {
                Discarded { bytes: 0, .. } => String::new(),
                Discarded { bytes, packets, .. } => format!(
                    "; {} of an earlier program dropped before, with {packets} ends of packets",
                    number::bytes(bytes)
                ),
            },
        )
    }
}

/// What was moved, and what else at the same time.
pub fn describe(card: &str, moved: &Moved, received: Option<&Moved>, json: bool) -> String {
    if !json {
        return [Some(moved), received].into_iter().flatten().map(Moved::text).collect::<Vec<_>>().join("\n");
    }
    let mut object = moved.object(card);
    if let Some(received) = received {
        object["received"] = received.object(card);
    }
    object.to_string()
}

impl Packets<'_> {
    /// Sends `input`, in packets of `packet` bytes, the last of which may be shorter.
    pub fn send(&self, input: impl Read + Send + 'static, packet: u64, bar: &ProgressBar) -> Result<Moved> {
        let mut sender = self.card.stream_h2c(self.channel, ChannelOptions::default())?;
        let mut buffer = self.card.allocate(self.buffer, Direction::H2C)?;
        let ((parts, to_send), size) = (sync_channel(1), self.buffer);
        thread::spawn(move || cut(input, packet, size, &parts));
        let mut moved = Moved::begin(sender.channel());
        let mut packet = 0;
        while let Some(part) = self.next_part(&to_send)? {
            let (bytes, ends) = part.context("cannot read the input")?;
            buffer.write(0, &bytes)?;
            self.send_part(&mut sender, &buffer, bytes.len() as u64, ends)?;
            packet += bytes.len() as u64;
            bar.inc(bytes.len() as u64);
            if ends {
                moved.lengths.push(std::mem::take(&mut packet));
            }
        }
        sender.close()?;
        Ok(moved.end())
    }

    /// The next part of the input; `None` at its end. Ends after Ctrl-C, and after the other thread has failed.
    fn next_part(&self, parts: &mpsc::Receiver<io::Result<Part>>) -> Result<Option<io::Result<Part>>> {
        loop {
            self.interrupt.check()?;
            if self.failed.load(Ordering::Relaxed) {
                return Err(Failure::Abandoned.into());
            }
            match parts.recv_timeout(PATIENCE) {
                Ok(part) => return Ok(Some(part)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Notes that `error` ends a thread. To be called before an engine is stopped, which may take a while.
    fn fails(&self, error: Error) -> Error {
        self.failed.store(true, Ordering::Relaxed);
        error
    }

    fn send_part(
        &self,
        sender: &mut Sender,
        buffer: &xdma::memory::Buffer,
        len: u64,
        ends: bool,
    ) -> Result<()> {
        let ticket = if ends { sender.send(buffer, 0..len)? } else { sender.send_part(buffer, 0..len)? };
        let sent = self.patiently(Direction::H2C, |limit| sender.wait(ticket, limit));
        sent.map_err(|error| ended(self.fails(error), sender.stop()))
            .with_context(|| format!("the stream of H2C channel {} does not take the data", self.channel))
    }

    /// Receives packets.
    pub fn receive(
        &self,
        into: Incoming<impl FnMut(&[u8]) -> Result<()>>,
        bar: &ProgressBar,
    ) -> Result<Moved> {
        self.receive_on(self.open_receiver(into.packets, into.discard)?, into, bar)
    }

    fn open_receiver(&self, packets: usize, discard: Option<Duration>) -> Result<Receiver> {
        // Each packet needs a buffer, so with no more of them than packets to come the engine becomes idle at the end.
        let (bytes, ahead) = (self.buffer as u32, packets);
        let discard = discard.map(|quiet| Discard { quiet, limit: DISCARD_LIMIT.max(2 * quiet) });
        let options =
            ReceiverOptions { buffers: BUFFERS, bytes, ahead, discard, ..ReceiverOptions::default() };
        let receiver = self.card.stream_c2h(self.channel, options)?;
        if receiver.discarded().more {
            return Err(Failure::NotQuiet { bytes: receiver.discarded().bytes }.into());
        }
        Ok(receiver)
    }

    fn receive_on(
        &self,
        mut receiver: Receiver,
        into: Incoming<impl FnMut(&[u8]) -> Result<()>>,
        bar: &ProgressBar,
    ) -> Result<Moved> {
        let mut moved = Moved::begin(receiver.channel());
        moved.discarded = receiver.discarded();
        let received = self.receive_all(&mut receiver, into, &mut moved, bar);
        received.map_err(|error| ended(self.fails(error), receiver.stop()))?;
        receiver.close()?;
        Ok(moved.end())
    }

    fn receive_all(
        &self,
        receiver: &mut Receiver,
        Incoming { packets, mut sink, .. }: Incoming<impl FnMut(&[u8]) -> Result<()>>,
        moved: &mut Moved,
        bar: &ProgressBar,
    ) -> Result<()> {
        let (mut data, mut packet) = (vec![], 0);
        while moved.lengths.len() < packets {
            let received = self
                .patiently(Direction::C2H, |limit| receiver.wait(limit))
                .with_context(|| format!("the stream of C2H channel {} brings no packet", self.channel))?;
            data.resize(received.len(), 0);
            receiver.read(&received, 0, &mut data)?;
            packet += received.len() as u64;
            if received.ends_packet() {
                moved.lengths.push(std::mem::take(&mut packet));
                receiver.set_ahead(packets - moved.lengths.len())?;
            }
            receiver.give_back(received)?;
            bar.inc(data.len() as u64);
            sink(&data)?;
        }
        Ok(())
    }

    /// Sends `input`, and receives packets at the same time; with `compare` they have to be what was sent.
    pub fn exchange(
        &self,
        input: impl Read + Send + 'static,
        packet: u64,
        mut into: Incoming<impl FnMut(&[u8]) -> Result<()> + Send>,
        compare: bool,
        bar: &ProgressBar,
    ) -> Result<(Moved, Moved)> {
        // Old data is dropped before anything is sent.
        let receiver = self.open_receiver(into.packets, into.discard)?;
        let (digests, expected) = channel();
        let (input, mut returned) = (Hashed::new(input, digests), Returned::new(expected));
        let (packets, discard) = (into.packets, into.discard);
        let sink = |bytes: &[u8]| {
            if compare {
                returned.take(bytes);
            }
            (into.sink)(bytes)
        };
        let hidden = ProgressBar::hidden();
        let (sent, received) = thread::scope(|scope| {
            let into = Incoming { packets, discard, sink };
            let receiver = scope.spawn(|| self.receive_on(receiver, into, &hidden));
            let sent = self.send(input, packet, bar).map_err(|error| self.fails(error));
            (sent, receiver.join())
        });
        let received = received.map_err(|_| anyhow!("the receiving thread panicked"))?;
        let (sent, mut received) = self.both(sent, received)?;
        received.compared = Some(compare);
        if compare {
            returned.check(&sent.lengths, &received.lengths)?;
        }
        Ok((sent, received))
    }

    /// What both threads moved, or the error of the one that failed first.
    fn both(&self, sent: Result<Moved>, received: Result<Moved>) -> Result<(Moved, Moved)> {
        match (sent, received) {
            (Ok(sent), Ok(received)) => Ok((sent, received)),
            (Err(error), Err(other)) if is_abandoned(&error) => Err(other),
            // Where nobody receives, nothing more is taken: that follows from what the receiver says.
            (Err(error), Err(cause))
                if !is_abandoned(&cause) && !is_silence(&cause) && is_silence(&error) =>
            {
                Err(cause)
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Waits for as long as is allowed, and neither after Ctrl-C nor after the other thread has failed.
    fn patiently<T>(
        &self,
        direction: Direction,
        mut wait: impl FnMut(Duration) -> Result<T, EngineError>,
    ) -> Result<T> {
        let (begin, limit) = (Instant::now(), self.limit);
        loop {
            match wait(PATIENCE.min(limit)) {
                Err(EngineError::Deadline { .. }) if self.interrupt.check().is_err() => {
                    return Err(Failure::Interrupted.into());
                }
                Err(EngineError::Deadline { .. }) if self.failed.load(Ordering::Relaxed) => {
                    return Err(Failure::Abandoned.into());
                }
                Err(EngineError::Deadline { .. }) if begin.elapsed() < limit => {}
                Err(EngineError::Deadline { .. }) => {
                    return Err(Failure::Silent { direction, limit, busy: false }.into());
                }
                waited => return Ok(waited?),
            }
        }
    }
}

/// Whether it only ended because the other thread did.
fn is_abandoned(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(Failure::Abandoned))
}

fn is_silence(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(Failure::Silent { .. }))
}

/// Why it ended, and whether the engine did. An engine in the middle of a stream may not be stoppable; that is no news of its own.
fn ended(error: Error, stopped: Result<(), EngineError>) -> Error {
    if !matches!(stopped, Err(EngineError::Hung { .. })) {
        return error;
    }
    match error.downcast::<Failure>() {
        Ok(Failure::Interrupted) => Failure::InterruptedBusy.into(),
        Ok(Failure::Silent { direction, limit, .. }) => {
            Failure::Silent { direction, limit, busy: true }.into()
        }
        Ok(failure) => failure.into(),
        Err(error) => error,
    }
}

/// A part of a packet, and whether it ends there.
type Part = (Vec<u8>, bool);

/// Cuts `input` into packets, and these into parts of at most `size` bytes. A part is held back until it is known whether more
/// follows.
fn cut(mut input: impl Read, packet: u64, size: u64, parts: &SyncSender<io::Result<Part>>) {
    let (mut held, mut left) = (None, packet);
    loop {
        let mut bytes = vec![];
        let read = input.by_ref().take(size.min(left)).read_to_end(&mut bytes);
        let more = match read {
            Ok(read) => read > 0,
            Err(error) => return drop(parts.send(Err(error))),
        };
        // The one before ends its packet if this is the first of another, or there is none.
        let ends = left == packet || !more;
        // Nobody listens after an error.
        if let Some(part) = held.take()
            && parts.send(Ok((part, ends))).is_err()
        {
            return;
        }
        if !more {
            return;
        }
        left -= bytes.len() as u64;
        if left == 0 {
            left = packet;
        }
        held = Some(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(len: usize, packet: u64, size: u64) -> Vec<(usize, bool)> {
        let (sender, receiver) = sync_channel(100);
        cut(&vec![0; len][..], packet, size, &sender);
        drop(sender);
        receiver.iter().map(Result::unwrap).map(|(part, ends)| (part.len(), ends)).collect()
    }

    #[test]
    fn packets_end_where_they_should() {
        let all = u64::MAX;
        assert_eq!(parts(0, all, 64), []);
        assert_eq!(parts(64, all, 64), [(64, true)]);
        assert_eq!(parts(65, all, 64), [(64, false), (1, true)]);
        assert_eq!(parts(10, 4, 64), [(4, true), (4, true), (2, true)]);
        assert_eq!(parts(8, 4, 64), [(4, true), (4, true)]);
        assert_eq!(parts(21, 10, 6), [(6, false), (4, true), (6, false), (4, true), (1, true)]);
    }

    #[test]
    fn an_input_that_fails_is_told() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let (sender, receiver) = sync_channel(1);
        cut(Broken, 4, 4, &sender);
        assert!(receiver.recv().unwrap().is_err());
    }
}
