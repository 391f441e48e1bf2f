//! Sending and receiving packets on AXI-Stream channels.

use crate::card::Subject;
use crate::copier::{HashingReader, Verifier};
use crate::failure::Failure;
use crate::interrupt::{CHECK_INTERVAL, Interrupt};
use crate::number;
use anyhow::{Context, Error, Result, anyhow};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::stream::{Discard, Discarded, ReceiveError, Receiver, ReceiverOptions, Sender};
use xdma::channel::{Channel, ChannelOptions, EngineError, Ring, WaitError};
use xdma::regs::Direction;

/// Number of receive buffers.
const BUFFERS: usize = 4;
/// Maximum size of a buffer in bytes.
pub const MAX_BUFFER: u64 = 64 << 20;
/// Time limit for discarding old data.
const DISCARD_LIMIT: Duration = Duration::from_secs(10);

/// Sends and receives packets on the AXI-Stream channels of one number.
pub struct PacketStream<'a> {
    pub card: &'a Card,
    pub interrupt: &'a Interrupt,
    pub channel: usize,
    /// Size of a buffer in bytes, a multiple of 64 and at most [`MAX_BUFFER`].
    pub buffer: u64,
    /// Time limit for a buffer.
    pub limit: Duration,
    /// Whether the sending or the receiving thread has failed, so that the other one ends too instead of waiting.
    pub failed: AtomicBool,
}

/// What to receive, and where to put it.
pub struct Reception<S> {
    /// Number of packets.
    pub packets: usize,
    /// Time without data after which the old data of the stream counts as discarded; `None` discards nothing.
    pub discard: Option<Duration>,
    /// Function that is called with the received bytes, in order.
    pub sink: S,
}

/// The outcome of sending or receiving packets.
pub struct PacketOutcome {
    direction: Direction,
    channel: usize,
    ring: Ring,
    /// Number of bytes of each packet.
    pub lengths: Vec<u64>,
    begin: Instant,
    took: Duration,
    /// Old data that was discarded first.
    discarded: Discarded,
    /// Whether the received data was compared with the sent data; `None` if there was nothing to compare.
    pub compared: Option<bool>,
}

impl PacketOutcome {
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

    fn object(&self, card: &Subject) -> Value {
        json!({
            "card": card.name,
            "emulated": card.emulated,
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

    fn text(&self, card: &Subject) -> String {
        format!(
            "{} {} in {} over {} channel {}, {:.1} ms{}{}{}",
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
                Some(true) => "; verified",
                Some(false) => "; not verified",
                None => "",
            },
            match self.discarded {
                Discarded { bytes: 0, .. } => String::new(),
                Discarded { bytes, packets, .. } => format!(
                    "; first discarded {} of earlier data, which included {packets} packet ends",
                    number::bytes(bytes)
                ),
            },
            card.note()
        )
    }
}

/// Describes the outcome of a command: `first`, and `received` if packets were received at the same time.
pub fn describe(
    card: &Subject,
    first: &PacketOutcome,
    received: Option<&PacketOutcome>,
    json: bool,
) -> String {
    if !json {
        let outcomes = [Some(first), received].into_iter().flatten();
        return outcomes.map(|outcome| outcome.text(card)).collect::<Vec<_>>().join("\n");
    }
    let mut object = first.object(card);
    if let Some(received) = received {
        object["received"] = received.object(card);
    }
    object.to_string()
}

impl PacketStream<'_> {
    /// Sends `input` in packets of `packet` bytes. The last packet may be shorter.
    pub fn send(
        &self,
        input: impl Read + Send + 'static,
        packet: u64,
        bar: &ProgressBar,
    ) -> Result<PacketOutcome> {
        let mut sender = self.card.stream_h2c(self.channel, ChannelOptions::default())?;
        let mut buffer = self.card.allocate(self.buffer, Direction::H2C)?;
        let ((parts, to_send), size) = (sync_channel(1), self.buffer);
        thread::spawn(move || split(input, packet, size, &parts));
        let mut outcome = PacketOutcome::begin(&sender);
        let mut packet = 0;
        while let Some(part) = self.next_part(&to_send)? {
            let (bytes, ends) = part.context("cannot read the input")?;
            buffer.write(0, &bytes)?;
            self.send_part(&mut sender, &buffer, bytes.len() as u64, ends)?;
            packet += bytes.len() as u64;
            bar.inc(bytes.len() as u64);
            if ends {
                outcome.lengths.push(std::mem::take(&mut packet));
            }
        }
        sender.close()?;
        Ok(outcome.end())
    }

    /// Waits for the next part of the input; `None` at its end. Fails after Ctrl-C, and after the other thread has failed.
    fn next_part(&self, parts: &mpsc::Receiver<io::Result<Part>>) -> Result<Option<io::Result<Part>>> {
        loop {
            self.interrupt.check()?;
            if self.failed.load(Ordering::Relaxed) {
                return Err(Failure::OtherThread.into());
            }
            match parts.recv_timeout(CHECK_INTERVAL) {
                Ok(part) => return Ok(Some(part)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Records that this thread has failed with `error`, so that the other thread ends too. Call it before stopping an engine, which
    /// may take a while.
    fn fail(&self, error: Error) -> Error {
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
        let sent = self.wait(Direction::H2C, |limit| Ok(sender.wait(ticket, limit)?));
        sent.map_err(|error| after_stop(self.fail(error), sender.stop()))
            .with_context(|| format!("cannot send on the stream of H2C channel {}", self.channel))
    }

    /// Receives packets.
    pub fn receive(
        &self,
        reception: Reception<impl FnMut(&[u8]) -> Result<()>>,
        bar: &ProgressBar,
    ) -> Result<PacketOutcome> {
        self.receive_on(self.open_receiver(reception.packets, reception.discard)?, reception, bar)
    }

    fn open_receiver(&self, packets: usize, discard: Option<Duration>) -> Result<Receiver> {
        // Each packet needs at least one buffer. With at most one posted buffer per missing packet, the engine is idle at the end.
        let (bytes, max_posted) = (self.buffer as u32, packets);
        let discard = discard.map(|quiet| Discard { quiet, limit: DISCARD_LIMIT.max(2 * quiet) });
        let options =
            ReceiverOptions { buffers: BUFFERS, bytes, max_posted, discard, ..ReceiverOptions::default() };
        let receiver = self.card.stream_c2h(self.channel, options)?;
        if receiver.discarded().more {
            return Err(Failure::LiveStream { bytes: receiver.discarded().bytes }.into());
        }
        Ok(receiver)
    }

    fn receive_on(
        &self,
        mut receiver: Receiver,
        reception: Reception<impl FnMut(&[u8]) -> Result<()>>,
        bar: &ProgressBar,
    ) -> Result<PacketOutcome> {
        let mut outcome = PacketOutcome::begin(receiver.channel());
        outcome.discarded = receiver.discarded();
        let received = self.receive_all(&mut receiver, reception, &mut outcome, bar);
        received.map_err(|error| after_stop(self.fail(error), receiver.stop()))?;
        receiver.close()?;
        Ok(outcome.end())
    }

    fn receive_all(
        &self,
        receiver: &mut Receiver,
        Reception { packets, mut sink, .. }: Reception<impl FnMut(&[u8]) -> Result<()>>,
        outcome: &mut PacketOutcome,
        bar: &ProgressBar,
    ) -> Result<()> {
        let (mut data, mut packet) = (vec![], 0);
        while outcome.lengths.len() < packets {
            let received = self
                .wait(Direction::C2H, |limit| receiver.wait(limit))
                .with_context(|| format!("cannot receive from the stream of C2H channel {}", self.channel))?;
            data.resize(received.len(), 0);
            receiver.read(&received, 0, &mut data)?;
            packet += received.len() as u64;
            if received.ends_packet() {
                outcome.lengths.push(std::mem::take(&mut packet));
                receiver.set_max_posted(packets - outcome.lengths.len())?;
            }
            receiver.recycle(received)?;
            bar.inc(data.len() as u64);
            sink(&data)?;
        }
        Ok(())
    }

    /// Sends `input` and receives packets at the same time. If `compare` is set, the received packets must be equal to the sent
    /// ones.
    pub fn exchange(
        &self,
        input: impl Read + Send + 'static,
        packet: u64,
        mut reception: Reception<impl FnMut(&[u8]) -> Result<()> + Send>,
        compare: bool,
        bar: &ProgressBar,
    ) -> Result<(PacketOutcome, PacketOutcome)> {
        // Old data is discarded before anything is sent.
        let receiver = self.open_receiver(reception.packets, reception.discard)?;
        let (digests, expected) = channel();
        let (input, mut verifier) = (HashingReader::new(input, digests), Verifier::new(expected));
        let (packets, discard) = (reception.packets, reception.discard);
        let sink = |bytes: &[u8]| {
            if compare {
                verifier.push(bytes);
            }
            (reception.sink)(bytes)
        };
        let hidden = ProgressBar::hidden();
        let (sent, received) = thread::scope(|scope| {
            let reception = Reception { packets, discard, sink };
            let receiver = scope.spawn(|| self.receive_on(receiver, reception, &hidden));
            let sent = self.send(input, packet, bar).map_err(|error| self.fail(error));
            (sent, receiver.join())
        });
        let received = received.map_err(|_| anyhow!("the receiving thread panicked"))?;
        let (sent, mut received) = both(sent, received)?;
        received.compared = Some(compare);
        if compare {
            verifier.check(&sent.lengths, &received.lengths)?;
        }
        Ok((sent, received))
    }

    /// Waits up to the time limit, or until Ctrl-C is pressed or the other thread fails.
    fn wait<T>(
        &self,
        direction: Direction,
        mut wait: impl FnMut(Duration) -> Result<T, ReceiveError>,
    ) -> Result<T> {
        let (begin, limit) = (Instant::now(), self.limit);
        loop {
            match wait(CHECK_INTERVAL.min(limit)) {
                Err(ReceiveError::Wait(WaitError::Deadline { .. })) if self.interrupt.check().is_err() => {
                    return Err(Failure::Interrupted.into());
                }
                Err(ReceiveError::Wait(WaitError::Deadline { .. }))
                    if self.failed.load(Ordering::Relaxed) =>
                {
                    return Err(Failure::OtherThread.into());
                }
                Err(ReceiveError::Wait(WaitError::Deadline { .. })) if begin.elapsed() < limit => {}
                Err(ReceiveError::Wait(WaitError::Deadline { .. })) => {
                    return Err(Failure::StreamTimeout { direction, limit, busy: false }.into());
                }
                waited => return Ok(waited?),
            }
        }
    }
}

/// Returns the outcomes of both threads, or the error of the one that failed first.
fn both(
    sent: Result<PacketOutcome>,
    received: Result<PacketOutcome>,
) -> Result<(PacketOutcome, PacketOutcome)> {
    match (sent, received) {
        (Ok(sent), Ok(received)) => Ok((sent, received)),
        (Err(error), Err(cause)) if is_other_thread(&error) => Err(cause),
        // The sender timed out because the receiver had failed, so the receiver's error is the cause.
        (Err(error), Err(cause)) if !is_other_thread(&cause) && !is_timeout(&cause) && is_timeout(&error) => {
            Err(cause)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Returns whether a thread ended only because the other one had failed.
fn is_other_thread(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(Failure::OtherThread))
}

fn is_timeout(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(Failure::StreamTimeout { .. }))
}

/// Adds to `error` that the engine could not be stopped, if so. An engine that waits for its stream often cannot be stopped, which is not
/// a separate error.
fn after_stop(error: Error, stopped: Result<(), EngineError>) -> Error {
    if !matches!(stopped, Err(EngineError::Hung { .. })) {
        return error;
    }
    match error.downcast::<Failure>() {
        Ok(Failure::Interrupted) => Failure::InterruptedBusy.into(),
        Ok(Failure::StreamTimeout { direction, limit, .. }) => {
            Failure::StreamTimeout { direction, limit, busy: true }.into()
        }
        Ok(failure) => failure.into(),
        Err(error) => error,
    }
}

/// A part of a packet, and whether it is the last part.
type Part = (Vec<u8>, bool);

/// Splits `input` into packets, and the packets into parts of at most `size` bytes. A part is held back until it is known whether
/// more input follows.
fn split(mut input: impl Read, packet: u64, size: u64, parts: &SyncSender<io::Result<Part>>) {
    let (mut held, mut left) = (None, packet);
    loop {
        let mut bytes = vec![];
        let read = input.by_ref().take(size.min(left)).read_to_end(&mut bytes);
        let more = match read {
            Ok(read) => read > 0,
            Err(error) => return drop(parts.send(Err(error))),
        };
        // The held part ends its packet if the new part begins a packet, or if there is no new part.
        let ends = left == packet || !more;
        // After an error the receiving thread has ended.
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
        split(&vec![0; len][..], packet, size, &sender);
        drop(sender);
        receiver.iter().map(Result::unwrap).map(|(part, ends)| (part.len(), ends)).collect()
    }

    #[test]
    fn input_is_split_into_packets_and_parts() {
        let all = u64::MAX;
        assert_eq!(parts(0, all, 64), []);
        assert_eq!(parts(64, all, 64), [(64, true)]);
        assert_eq!(parts(65, all, 64), [(64, false), (1, true)]);
        assert_eq!(parts(10, 4, 64), [(4, true), (4, true), (2, true)]);
        assert_eq!(parts(8, 4, 64), [(4, true), (4, true)]);
        assert_eq!(parts(21, 10, 6), [(6, false), (4, true), (6, false), (4, true), (1, true)]);
    }

    #[test]
    fn an_input_error_is_passed_on() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let (sender, receiver) = sync_channel(1);
        split(Broken, 4, 4, &sender);
        assert!(receiver.recv().unwrap().is_err());
    }
}
