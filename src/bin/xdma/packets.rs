//! Packets to and from AXI-Stream channels.

use crate::failure::Failure;
use crate::interrupt::{Interrupt, PATIENCE};
use crate::number;
use anyhow::{Context, Error, Result, anyhow};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::io::{self, Read};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::engine::stream::{ReceiverOptions, Sender};
use xdma::engine::{Channel, ChannelOptions, EngineError, Ring};
use xdma::regs::Direction;

/// Buffers that a receiver fills by turns.
const BUFFERS: usize = 4;
/// Most bytes of a receiver's buffer.
const MOST: u64 = 64 << 20;

/// How packets are moved.
pub struct Packets<'a> {
    pub card: &'a Card,
    pub interrupt: &'a Interrupt,
    pub channel: usize,
    /// Bytes of a buffer, a multiple of 64.
    pub buffer: u64,
    /// How long the stream may take for one.
    pub limit: Duration,
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
}

impl Moved {
    fn begin(channel: &Channel) -> Self {
        let (direction, ring, channel) = (channel.direction(), channel.ring(), channel.index());
        Self { direction, channel, ring, lengths: vec![], begin: Instant::now(), took: Duration::ZERO }
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
        })
    }

    fn text(&self) -> String {
        format!(
            "{} {} in {} over {} channel {}, {:.1} ms",
            if self.direction == Direction::H2C { "sent" } else { "received" },
            number::bytes(self.bytes()),
            match self.lengths.len() {
                1 => "1 packet".into(),
                count => format!("{count} packets"),
            },
            self.direction,
            self.channel,
            self.took.as_secs_f64() * 1e3,
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
        while let Some(part) = self.interrupt.receive(&to_send)? {
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

    fn send_part(
        &self,
        sender: &mut Sender,
        buffer: &xdma::memory::Buffer,
        len: u64,
        ends: bool,
    ) -> Result<()> {
        let ticket = if ends { sender.send(buffer, 0..len)? } else { sender.send_part(buffer, 0..len)? };
        let sent = self.patiently(Direction::H2C, |limit| sender.wait(ticket, limit));
        sent.map_err(|error| ended(error, sender.stop()))
            .with_context(|| format!("the stream of H2C channel {} does not take the data", self.channel))
    }

    /// Receives so many packets, and gives what is in them to `sink` in order.
    pub fn receive(
        &self,
        packets: usize,
        mut sink: impl FnMut(&[u8]) -> Result<()>,
        bar: &ProgressBar,
    ) -> Result<Moved> {
        // Each packet needs a buffer, so with no more of them than packets to come the engine becomes idle at the end.
        let (bytes, ahead) = (self.buffer.min(MOST) as u32, packets);
        let options = ReceiverOptions { buffers: BUFFERS, bytes, ahead, ..ReceiverOptions::default() };
        let mut receiver = self.card.stream_c2h(self.channel, options)?;
        let mut moved = Moved::begin(receiver.channel());
        let (mut data, mut packet) = (vec![], 0);
        while moved.lengths.len() < packets {
            let received = self.patiently(Direction::C2H, |limit| receiver.wait(limit));
            let received = received
                .map_err(|error| ended(error, receiver.stop()))
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
        receiver.close()?;
        Ok(moved.end())
    }

    /// Sends `input`, and receives `count` packets at the same time.
    pub fn exchange(
        &self,
        input: impl Read + Send + 'static,
        packet: u64,
        count: usize,
        sink: impl FnMut(&[u8]) -> Result<()> + Send,
        bar: &ProgressBar,
    ) -> Result<(Moved, Moved)> {
        let (sent, received) = thread::scope(|scope| {
            let receiver = scope.spawn(|| self.receive(count, sink, &ProgressBar::hidden()));
            (self.send(input, packet, bar), receiver.join())
        });
        let received = received.map_err(|_| anyhow!("the receiving thread panicked"))?;
        match (sent, received) {
            (Ok(sent), Ok(received)) => Ok((sent, received)),
            // Where nobody receives, nothing more is taken: that follows from what the receiver says.
            (Err(error), Err(cause)) if !is_silence(&cause) && is_silence(&error) => Err(cause),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Waits for as long as is allowed, and not after Ctrl-C.
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
                Err(EngineError::Deadline { .. }) if begin.elapsed() < limit => {}
                Err(EngineError::Deadline { .. }) => {
                    return Err(Failure::Silent { direction, limit, busy: false }.into());
                }
                waited => return Ok(waited?),
            }
        }
    }
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
