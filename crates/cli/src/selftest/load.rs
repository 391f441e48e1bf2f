//! Load on all channels at once.

use super::path::{LIMIT, compare, receive_all};
use super::steps::pattern;
use crate::survey::SCRATCH_BYTES;
use anyhow::{Context, Result};
use xdma::card::Card;
use xdma::channel::stream::{Receiver, ReceiverOptions, Sender};
use xdma::channel::{Channel, ChannelOptions, Ticket};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma_emulator::CardFile;

/// Bytes of each H2C channel's part of the scratch memory, which has two halves.
const PART: u64 = SCRATCH_BYTES / 4;
const HALF: u64 = PART / 2;

/// All channels of a card, each with a buffer.
pub enum AllChannels {
    /// In each round, the H2C channels write one half of their part of the memory, while the C2H channels read the other.
    Memory { h2c: Vec<(Channel, Buffer)>, c2h: Vec<(Channel, Buffer)>, scratch: u64 },
    /// In each round, a packet is sent on each stream and received.
    Streams(Vec<(Sender, Receiver, Buffer)>),
}

impl AllChannels {
    pub fn open(card: &Card, file: &CardFile, scratch: u64) -> Result<Self> {
        let options = ChannelOptions::default();
        let channels = file.channels;
        if file.is_stream() {
            let open = |index| {
                let receiver = card.stream_c2h(index, ReceiverOptions::default())?;
                Ok((card.stream_h2c(index, options)?, receiver, card.allocate(HALF, Direction::H2C)?))
            };
            return Ok(Self::Streams((0..channels.h2c.min(channels.c2h)).map(open).collect::<Result<_>>()?));
        }
        let open = |direction, count| {
            let open =
                |index| Ok((card.channel(direction, index, options)?, card.allocate(HALF, direction)?));
            (0..count).map(open).collect::<Result<Vec<_>>>()
        };
        Ok(Self::Memory {
            h2c: open(Direction::H2C, channels.h2c)?,
            c2h: open(Direction::C2H, channels.c2h)?,
            scratch,
        })
    }

    /// Keeps all channels busy with one transfer each, compares the data, and returns the number of bytes moved.
    pub fn round(&mut self, round: u64) -> Result<u64> {
        match self {
            Self::Memory { h2c, c2h, scratch } => memory_round(h2c, c2h, *scratch, round),
            Self::Streams(streams) => stream_round(streams, round),
        }
    }
}

/// The data of an H2C channel in a round.
fn data(channel: usize, round: u64) -> Vec<u8> {
    pattern(HALF as usize, round << 3 | channel as u64)
}

fn memory_round(
    h2c: &mut [(Channel, Buffer)],
    c2h: &mut [(Channel, Buffer)],
    scratch: u64,
    round: u64,
) -> Result<u64> {
    let (written, writers) = (round % 2 * HALF, h2c.len());
    let mut tickets: Vec<Ticket> = vec![];
    for (index, (channel, buffer)) in h2c.iter_mut().enumerate() {
        buffer.write(0, &data(index, round))?;
        tickets.push(channel.submit(buffer, 0..HALF, scratch + index as u64 * PART + written)?);
    }
    let source = |index: usize| index % writers.max(1);
    for (index, (channel, buffer)) in c2h.iter_mut().enumerate() {
        let address = scratch + source(index) as u64 * PART + HALF - written;
        tickets.push(channel.submit(buffer, 0..HALF, address)?);
    }
    let moved = HALF * tickets.len() as u64;
    let all = h2c.iter_mut().chain(c2h.iter_mut());
    for ((channel, _), ticket) in all.zip(tickets) {
        channel
            .wait(ticket, LIMIT)
            .with_context(|| format!("{} channel {}", channel.direction(), channel.index()))?;
    }
    if writers > 0 && round > 0 {
        for (index, (_, buffer)) in c2h.iter().enumerate() {
            let mut seen = vec![0u8; HALF as usize];
            buffer.read(0, &mut seen)?;
            compare(&data(source(index), round - 1), &seen)
                .with_context(|| format!("C2H channel {index}"))?;
        }
    }
    Ok(moved)
}

fn stream_round(streams: &mut [(Sender, Receiver, Buffer)], round: u64) -> Result<u64> {
    let mut tickets = vec![];
    for (index, (sender, _, buffer)) in streams.iter_mut().enumerate() {
        buffer.write(0, &data(index, round))?;
        tickets.push(sender.send(buffer, 0..HALF)?);
    }
    for (index, ((sender, receiver, _), ticket)) in streams.iter_mut().zip(tickets).enumerate() {
        let mut seen = vec![0u8; HALF as usize];
        receive_all(receiver, &mut seen)
            .and_then(|()| compare(&data(index, round), &seen))
            .with_context(|| format!("stream {index}"))?;
        sender.wait(ticket, LIMIT)?;
    }
    Ok(2 * HALF * streams.len() as u64)
}
