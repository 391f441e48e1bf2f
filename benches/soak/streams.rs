//! Packets on the streams of a card with a loopback.

use crate::session::{Canaries, Session, Workload};
use crate::tally::{Tally, classify};
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xdma::channel::stream::{Receiver, ReceiverOptions, Sender};
use xdma::channel::{ChannelOptions, EngineError, OpenError, Ring, Wait};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma_emulator::logic::Loopback;
use xdma_emulator::{EmulatedCard, EmulatorOptions, Switches};

const PAIRS: usize = 2;
/// Bytes of the longest packet. It fits into the FIFO of the loopback, so one thread can send a packet and then receive it.
const MAX_PACKET_BYTES: usize = 50_000;
/// Number of receive buffers, and bytes of each.
const BUFFERS: (usize, u32) = (16, 8192);
const LIMIT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(40);

/// Runs until `stop` is set.
pub fn start(seed: u64, tally: &Arc<Tally>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let start = move || {
        // Without this switch, an engine that waits for a packet never becomes idle.
        let switches = Switches { stop_ends_idle_stream: true.into(), ..Switches::default() };
        let options =
            EmulatorOptions { seed, ..EmulatorOptions::default() }.with_streams().with_switches(switches);
        EmulatedCard::start(options, Arc::new(Loopback::new())).expect("an emulated card can be started")
    };
    Workload { name: "stream", seed: seed + 2, pause: PAUSE, workers: PAIRS, start, work }.spawn(tally, stop)
}

/// A sender and a receiver.
struct StreamPair {
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    source: Buffer,
    index: usize,
    canaries: Canaries,
    /// Whether packets may have been truncated or lost, so that parts of them may still arrive.
    dirty: bool,
}

fn options(rng: &mut StdRng) -> ChannelOptions {
    let ring = if rng.random_bool(0.5) { Ring::Chain } else { Ring::Credits };
    ChannelOptions { ring: Some(ring), wait: Wait::ALL[rng.random_range(1..4)], ..ChannelOptions::default() }
}

fn sender(session: &Session<'_>, index: usize, rng: &mut StdRng) -> Result<Sender, OpenError> {
    session.card.stream_h2c(index, options(rng))
}

fn receiver(session: &Session<'_>, index: usize, rng: &mut StdRng) -> Result<Receiver, OpenError> {
    let (buffers, bytes) = BUFFERS;
    let options = ReceiverOptions { channel: options(rng), buffers, bytes, ..ReceiverOptions::default() };
    session.card.stream_c2h(index, options)
}

impl StreamPair {
    fn open(session: &Session<'_>, index: usize, rng: &mut StdRng) -> Result<Self, Box<dyn Error>> {
        let (sender, receiver) = (Some(sender(session, index, rng)?), Some(receiver(session, index, rng)?));
        let source = session.card.allocate(MAX_PACKET_BYTES as u64, Direction::H2C)?;
        // The loopback may still contain packets of an earlier session.
        Ok(Self { sender, receiver, source, index, canaries: Canaries::default(), dirty: true })
    }

    /// Sends a random packet and returns its content.
    fn send(&mut self, rng: &mut StdRng) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut packet = vec![0; rng.random_range(16..=MAX_PACKET_BYTES)];
        rng.fill_bytes(&mut packet);
        self.source.write(0, &packet)?;
        let sender = self.sender.as_mut().ok_or(EngineError::Stopped)?;
        let ticket = sender.send(&self.source, 0..packet.len() as u64)?;
        sender.wait(ticket, LIMIT)?;
        Ok(packet)
    }

    fn receive(&mut self) -> Result<Vec<u8>, Box<dyn Error>> {
        receive(self.receiver.as_mut().ok_or(EngineError::Stopped)?)
    }

    /// Sends and receives a packet. Returns the number of bytes moved, and whether the data was correct.
    fn round_trip(&mut self, rng: &mut StdRng) -> Result<(u64, bool), Box<dyn Error>> {
        let packet = self.send(rng)?;
        Ok((2 * packet.len() as u64, self.receive()? == packet))
    }

    /// Sends packets until one arrives complete. Everything that arrives before it is left over from truncated packets.
    fn drain(&mut self, session: &Session<'_>, rng: &mut StdRng) -> Result<(), Box<dyn Error>> {
        while self.dirty && !session.is_over() {
            let packet = self.send(rng)?;
            while self.dirty {
                match self.receive() {
                    Ok(received) => self.dirty = received != packet,
                    // The packet became part of a truncated one.
                    Err(error) if classify(&*error) == Some("Deadline") => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn recover(&mut self) -> Result<(), EngineError> {
        self.sender.as_mut().map_or(Ok(()), |sender| sender.recover())?;
        self.receiver.as_mut().map_or(Ok(()), Receiver::recover)
    }

    /// Ends the sender while it sends a packet. Returns whether it can be opened again.
    fn end_sender(&mut self, session: &Session<'_>, rng: &mut StdRng) -> bool {
        let Some(mut sender) = self.sender.take() else { return true };
        let (how, gone) = (session.choose_disposal(rng), rng.random_bool(0.5));
        if gone {
            session.stall(Direction::H2C, self.index, rng);
        }
        if let Err(error) = sender.send(&self.source, 0..rng.random_range(1..=MAX_PACKET_BYTES as u64)) {
            session.tally.error("stream: ", &error);
        }
        if gone {
            session.all_ones(rng);
        }
        session.end(how, sender, Sender::close)
    }

    /// Ends the receiver while its engine waits for packets. Returns whether it can be opened again.
    fn end_receiver(&mut self, session: &Session<'_>, rng: &mut StdRng) -> bool {
        let Some(receiver) = self.receiver.take() else { return true };
        let (how, gone) = (session.choose_disposal(rng), rng.random_bool(0.5));
        if gone {
            session.all_ones(rng);
        }
        session.end(how, receiver, Receiver::close)
    }

    /// Ends one or both channels and opens them again. Returns `false` if that is impossible.
    fn reopen(&mut self, session: &Session<'_>, rng: &mut StdRng) -> Result<bool, Box<dyn Error>> {
        self.dirty = true;
        let selected = rng.random_range(1..4);
        if selected & 1 != 0 && !self.end_sender(session, rng)
            || selected & 2 != 0 && !self.end_receiver(session, rng)
        {
            return Ok(false);
        }
        self.canaries.renew(session)?;
        self.source = session.card.allocate(MAX_PACKET_BYTES as u64, Direction::H2C)?;
        if self.sender.is_none() {
            self.sender = Some(session.retry(|| sender(session, self.index, rng))?);
        }
        if self.receiver.is_none() {
            self.receiver = Some(session.retry(|| receiver(session, self.index, rng))?);
        }
        Ok(true)
    }
}

fn receive(receiver: &mut Receiver) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut packet = vec![];
    loop {
        let received = receiver.wait(LIMIT)?;
        let start = packet.len();
        packet.resize(start + received.len(), 0);
        receiver.read(&received, 0, &mut packet[start..])?;
        let ends = received.ends_packet();
        receiver.recycle(received)?;
        if ends {
            return Ok(packet);
        }
    }
}

fn work(session: &Session<'_>, index: usize, rng: &mut StdRng) {
    let tally = session.tally;
    let mut pair = match session.retry(|| StreamPair::open(session, index, rng)) {
        Ok(pair) => pair,
        Err(_) if session.ends_soon() => return,
        Err(error) => return tally.unexplained(format!("cannot open stream {index}: {error}")),
    };
    let mut failed: Option<Instant> = None;
    while !session.is_over() {
        let (mut reopen, mut recovered): (bool, Result<(), EngineError>) = (rng.random_bool(0.01), Ok(()));
        let round = pair.drain(session, rng).and_then(|()| pair.round_trip(rng));
        // After the end of the session, the outcome does not matter.
        if session.is_over() {
            return;
        }
        match round {
            Ok((bytes, correct)) => {
                if let Some(since) = failed.take() {
                    tally.recovery("stream recovered", since.elapsed());
                }
                if correct {
                    tally.job(bytes)
                } else {
                    tally
                        .mismatch(format!("stream {index}: the packet received differs from the packet sent"))
                }
            }
            Err(error) => {
                pair.dirty = true;
                tally.error("stream: ", &*error);
                failed.get_or_insert_with(Instant::now);
                reopen |= rng.random_bool(0.3);
                if !reopen {
                    recovered = session.retry(|| pair.recover());
                }
            }
        }
        match recovered
            .map_err(Box::from)
            .and_then(|()| if reopen { pair.reopen(session, rng) } else { Ok(true) })
        {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) if session.ends_soon() => return,
            Err(error) => {
                return tally
                    .unexplained(format!("stream {index} does not work after its recovery: {error}"));
            }
        }
    }
}
