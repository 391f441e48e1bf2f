//! Sends packets on an AXI-Stream channel and receives them into a ring of buffers. The card must loop its H2C stream back to its
//! C2H stream, as the emulated card does.
//!
//!     cargo run --release --example stream_receive -- --packets 2000
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//!   2,000 packets, 9.23 MiB in 3,460 buffers, in 1.38s (6.99 MB/s, credits ring): all arrived as sent
//! ```
//!
//! A packet that is longer than a buffer arrives in several, so there are more buffers than packets.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::ChannelOptions;
use xdma::channel::stream::{Discard, Receiver, ReceiverOptions, Sender};
use xdma::regs::Direction;
use xdma_examples::card::CardArgs;
use xdma_examples::first_error::FirstError;
use xdma_examples::human;

const LIMIT: Duration = Duration::from_secs(10);

/// Sends packets and receives them.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    card: CardArgs,
    /// Number of packets.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    packets: u32,
    /// Bytes of the longest packet. Packets grow to this length, then start over with short ones.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    longest: u32,
    /// Bytes of a receive buffer, a multiple of 64.
    #[arg(long, default_value_t = 4096)]
    buffer: u32,
    /// Number of the H2C channel and of the C2H channel.
    #[arg(long, default_value_t = 0)]
    channel: usize,
}

impl Args {
    /// Returns the length of a packet.
    fn len(&self, packet: u32) -> usize {
        (u64::from(packet) * 37 % u64::from(self.longest)) as usize + 1
    }
}

/// Returns a byte of a packet, whose content is its number, repeated.
fn byte(packet: u32, at: usize) -> u8 {
    packet.to_le_bytes()[at % 4]
}

fn main() -> Result<()> {
    run(&Args::parse())
}

pub fn run(args: &Args) -> Result<()> {
    let card = args.card.open_streams()?;
    println!("{}", args.card.describe(&card)?);
    // The engine never has more buffers than packets to come, so it is idle after the last packet and can be stopped. Data that an
    // earlier program left in the loop is discarded before anything is sent.
    let (max_posted, discard) = (args.packets as usize, Some(Discard::default()));
    let ring = ReceiverOptions {
        buffers: 16,
        bytes: args.buffer,
        max_posted,
        discard,
        ..ReceiverOptions::default()
    };
    let receiver = card.stream_c2h(args.channel, ring)?;
    let sender = card.stream_h2c(args.channel, ChannelOptions::default())?;
    let first_error = FirstError::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            send(&card, sender, args, &first_error).unwrap_or_else(|error| first_error.set(error));
        });
        let mut receiver = receiver;
        receive(&mut receiver, args, &first_error).unwrap_or_else(|error| first_error.set(error));
        // Closing may wait for the engine. The error above is already set, so the sender ends in the meantime.
        receiver.close().unwrap_or_else(|error| first_error.set(error.into()));
    });
    first_error.into_result()
}

fn send(card: &Card, mut sender: Sender, args: &Args, first_error: &FirstError) -> Result<()> {
    let mut buffer = card.allocate(args.longest.into(), Direction::H2C)?;
    for packet in 0..args.packets {
        let len = args.len(packet);
        let bytes = buffer.as_mut_slice::<u8>()?;
        bytes[..len].iter_mut().enumerate().for_each(|(at, each)| *each = byte(packet, at));
        // `send` sets EOP in the last descriptor, which ends the packet. `send_part` would not.
        let failed = || format!("packet {packet} was not sent");
        let ticket = sender.send(&buffer, 0..len as u64).with_context(failed)?;
        let Some(sent) = first_error.wait(LIMIT, |limit| Ok(sender.wait(ticket, limit)?)) else {
            return Ok(());
        };
        sent.with_context(failed)?;
    }
    Ok(sender.close()?)
}

fn receive(receiver: &mut Receiver, args: &Args, first_error: &FirstError) -> Result<()> {
    let left = |packet: u32| (args.packets - packet) as usize;
    let begin = Instant::now();
    let (mut packet, mut buffers, mut bytes) = (0, 0u64, 0);
    let mut data = vec![];
    while packet < args.packets {
        let Some(received) = first_error.wait(LIMIT, |limit| receiver.wait(limit)) else { return Ok(()) };
        let received = received.with_context(|| format!("packet {packet} was not received"))?;
        // A packet that is longer than a buffer continues in the next one.
        let start = data.len();
        data.resize(start + received.len(), 0);
        receiver.read(&received, 0, &mut data[start..])?;
        buffers += 1;
        if received.ends_packet() {
            let right = data.len() == args.len(packet)
                && data.iter().enumerate().all(|(at, &each)| each == byte(packet, at));
            ensure!(
                right,
                "packet {packet} was received as {} bytes that differ from those sent",
                data.len()
            );
            bytes += data.len() as u64;
            data.clear();
            packet += 1;
            receiver.set_max_posted(left(packet))?;
        }
        // Until its buffer is recycled, the engine cannot fill it again. A slow program therefore delays the stream, but loses
        // nothing.
        receiver.recycle(received).context("a buffer was not posted again")?;
    }
    let (seconds, ring) = (begin.elapsed().as_secs_f64(), receiver.channel().ring());
    println!(
        "  {} packets, {} in {} buffers, in {} ({}, {ring} ring): all arrived as sent",
        human::count(packet.into()),
        human::bytes(bytes),
        human::count(buffers),
        human::seconds(seconds),
        human::bandwidth(bytes, seconds),
    );
    Ok(())
}
