//! Packets from an AXI-Stream channel, received on a ring of buffers. A thread sends what comes back: the card is expected to
//! loop its H2C stream to its C2H stream, as the emulated one does.
//!
//!     cargo run --release --example stream_receive -- --packets 100000

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::ChannelOptions;
use xdma::channel::stream::{Discard, Receiver, ReceiverOptions, Sender};
use xdma::regs::Direction;
use xdma_examples::card::CardArgs;
use xdma_examples::first::FirstError;
use xdma_examples::human;

const LIMIT: Duration = Duration::from_secs(10);

/// Sends packets, and receives them.
#[derive(Parser)]
pub struct Options {
    #[command(flatten)]
    card: CardArgs,
    /// How many packets.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    packets: u32,
    /// Bytes of the longest packet; they get longer up to that, and then short again.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    longest: u32,
    /// Bytes of a buffer, a multiple of 64.
    #[arg(long, default_value_t = 4096)]
    buffer: u32,
    /// H2C and C2H channel.
    #[arg(long, default_value_t = 0)]
    channel: usize,
}

impl Options {
    fn len(&self, packet: u32) -> usize {
        (u64::from(packet) * 37 % u64::from(self.longest)) as usize + 1
    }
}

/// What is in a packet: its number, again and again.
fn byte(packet: u32, at: usize) -> u8 {
    packet.to_le_bytes()[at % 4]
}

fn main() -> Result<()> {
    run(&Options::parse())
}

pub fn run(options: &Options) -> Result<()> {
    let card = options.card.open_streams()?;
    println!("{}", options.card.describe(&card)?);
    // The engine has no more buffers than packets to come, so that it becomes idle with the last one. What an earlier program left
    // in the loop is dropped before anything is sent.
    let (ahead, discard) = (options.packets as usize, Some(Discard::default()));
    let ring =
        ReceiverOptions { buffers: 16, bytes: options.buffer, ahead, discard, ..ReceiverOptions::default() };
    let receiver = card.stream_c2h(options.channel, ring)?;
    let sender = card.stream_h2c(options.channel, ChannelOptions::default())?;
    let first = FirstError::default();
    std::thread::scope(|scope| {
        scope.spawn(|| send(&card, sender, options, &first).unwrap_or_else(|error| first.set(error)));
        // Dropping the receiver may wait for its engine. The sender has no reason to wait for that too.
        let mut receiver = receiver;
        receive(&mut receiver, options, &first).unwrap_or_else(|error| first.set(error));
        receiver.close().unwrap_or_else(|error| first.set(error.into()));
    });
    first.take()
}

fn send(card: &Card, mut sender: Sender, options: &Options, first: &FirstError) -> Result<()> {
    let mut buffer = card.allocate(options.longest.into(), Direction::H2C)?;
    for packet in 0..options.packets {
        let len = options.len(packet);
        let bytes = buffer.as_mut_slice::<u8>()?;
        bytes[..len].iter_mut().enumerate().for_each(|(at, each)| *each = byte(packet, at));
        // Its last descriptor has EOP: the packet ends here.
        let ticket = sender.send(&buffer, 0..len as u64)?;
        let Some(sent) = first.wait(LIMIT, |limit| sender.wait(ticket, limit)) else { return Ok(()) };
        sent.with_context(|| format!("packet {packet} is not taken"))?;
    }
    Ok(sender.close()?)
}

fn receive(receiver: &mut Receiver, options: &Options, first: &FirstError) -> Result<()> {
    let left = |packet: u32| (options.packets - packet) as usize;
    let begin = Instant::now();
    let (mut packet, mut buffers, mut bytes) = (0, 0u64, 0);
    let mut data = vec![];
    while packet < options.packets {
        let Some(received) = first.wait(LIMIT, |limit| receiver.wait(limit)) else { return Ok(()) };
        let received = received.with_context(|| format!("packet {packet} does not come"))?;
        // A packet longer than a buffer goes on in the next one.
        let start = data.len();
        data.resize(start + received.len(), 0);
        receiver.read(&received, 0, &mut data[start..])?;
        buffers += 1;
        if received.ends_packet() {
            let right = data.len() == options.len(packet)
                && data.iter().enumerate().all(|(at, &each)| each == byte(packet, at));
            ensure!(right, "packet {packet} came back as {} bytes that were not sent", data.len());
            bytes += data.len() as u64;
            data.clear();
            packet += 1;
            receiver.set_ahead(left(packet))?;
        }
        // Only now can the engine fill it again: a slow program holds the stream up and loses nothing.
        receiver.give_back(received)?;
    }
    let (seconds, ring) = (begin.elapsed().as_secs_f64(), receiver.channel().ring());
    println!(
        "  {} packets, {} in {} buffers, in {} ({}, {ring} ring): all as they were sent",
        human::count(packet.into()),
        human::bytes(bytes),
        human::count(buffers),
        human::seconds(seconds),
        human::bandwidth(bytes, seconds),
    );
    Ok(())
}
