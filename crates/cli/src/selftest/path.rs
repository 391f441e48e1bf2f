//! A path of data through the card and back: through its memory, or through user logic that loops streams back.

use anyhow::{Result, bail};
use std::time::Duration;
use xdma::card::Card;
use xdma::channel::stream::{Receiver, ReceiverOptions, Sender};
use xdma::channel::{Channel, ChannelOptions, Stats};
use xdma::regs::Direction;
use xdma_emulator::CardFile;

/// Time limit for a transfer.
pub const LIMIT: Duration = Duration::from_secs(2);

/// The channels with one number, in both directions. A number that only one direction has is paired with the last channel of the
/// other.
pub enum Path {
    Memory { h2c: Option<Box<Channel>>, c2h: Option<Box<Channel>>, scratch: u64 },
    Stream { sender: Box<Sender>, receiver: Box<Receiver> },
}

impl Path {
    /// Returns how many paths a card has.
    pub fn count(file: &CardFile) -> usize {
        let channels = file.channels;
        if file.is_stream() { channels.h2c.min(channels.c2h) } else { channels.h2c.max(channels.c2h) }
    }

    /// Opens the channels of number `index`.
    pub fn open(
        card: &Card,
        file: &CardFile,
        index: usize,
        scratch: u64,
        options: ChannelOptions,
    ) -> Result<Self> {
        if file.is_stream() {
            let sender = Box::new(card.stream_h2c(index, options)?);
            let receiver = ReceiverOptions { channel: options, ..ReceiverOptions::default() };
            return Ok(Self::Stream { sender, receiver: Box::new(card.stream_c2h(index, receiver)?) });
        }
        // The direction with fewer channels lends its last one.
        let open = |direction, count: usize| match index.min(count.wrapping_sub(1)) {
            index if index < count => {
                card.channel(direction, index, options).map(|channel| Some(Box::new(channel)))
            }
            _ => Ok(None),
        };
        let (h2c, c2h) = (file.channels.h2c, file.channels.c2h);
        Ok(Self::Memory { h2c: open(Direction::H2C, h2c)?, c2h: open(Direction::C2H, c2h)?, scratch })
    }

    /// Sends `data` from `host_offset` in a host buffer to `offset` in the scratch memory and reads it back, or sends it through the
    /// stream and receives it. Checks that it is unchanged. If the path has only one direction, the data is moved but not checked.
    pub fn round_trip(&mut self, card: &Card, data: &[u8], host_offset: u64, offset: u64) -> Result<()> {
        let len = data.len() as u64;
        let mut source = card.allocate(host_offset + len, Direction::H2C)?;
        source.write(host_offset, data)?;
        let range = host_offset..host_offset + len;
        let mut seen = vec![0u8; data.len()];
        match self {
            Self::Memory { h2c, c2h, scratch } => {
                let address = *scratch + offset;
                if let Some(h2c) = h2c {
                    h2c.transfer(&source, range.clone(), address, LIMIT)?;
                }
                let Some(c2h) = c2h else { return Ok(()) };
                let sink = card.allocate(host_offset + len, Direction::C2H)?;
                c2h.transfer(&sink, range, address, LIMIT)?;
                if h2c.is_none() {
                    return Ok(());
                }
                sink.read(host_offset, &mut seen)?;
            }
            Self::Stream { sender, receiver } => {
                let ticket = sender.send(&source, range)?;
                receive_all(receiver, &mut seen)?;
                sender.wait(ticket, LIMIT)?;
            }
        }
        compare(data, &seen)
    }

    /// Returns the statistics of the channels.
    pub fn stats(&self) -> Vec<(Direction, Stats)> {
        match self {
            Self::Memory { h2c, c2h, .. } => [h2c, c2h]
                .into_iter()
                .flatten()
                .map(|channel| (channel.direction(), channel.stats()))
                .collect(),
            Self::Stream { sender, receiver } => {
                vec![(Direction::H2C, sender.stats()), (Direction::C2H, receiver.channel().stats())]
            }
        }
    }
}

/// Receives buffers from a stream until `data` is full.
pub fn receive_all(receiver: &mut Receiver, data: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < data.len() {
        let received = receiver.wait(LIMIT)?;
        let part = received.len().min(data.len() - done);
        receiver.read(&received, 0, &mut data[done..done + part])?;
        done += part;
        receiver.recycle(received)?;
    }
    Ok(())
}

/// Checks that data came back as it was sent.
pub fn compare(sent: &[u8], seen: &[u8]) -> Result<()> {
    match sent.iter().zip(seen).position(|(sent, seen)| sent != seen) {
        None => Ok(()),
        Some(at) => bail!(
            "of {} bytes, byte {at} came back as {:#04x} instead of {:#04x}",
            sent.len(),
            seen[at],
            sent[at]
        ),
    }
}
