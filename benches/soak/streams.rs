//! Packets there and back on the streams of a card with a loopback behind it.

use crate::session::{Plan, Session, Unused};
use crate::tally::Tally;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xdma::card::CardError;
use xdma::channel::stream::{Receiver, ReceiverOptions, Sender};
use xdma::channel::{ChannelOptions, EngineError, Ring, Wait};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma_emulator::logic::Loopback;
use xdma_emulator::{EmulatedCard, Options, Switches};

const LANES: usize = 2;
/// Bytes of the longest packet; it fits into the loopback's FIFO, so one thread can send and then receive.
const LONGEST: usize = 50_000;
/// Buffers of a receiver, and bytes of each.
const BUFFERS: (usize, u32) = (16, 8192);
const LIMIT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(40);

/// Works until told to stop.
pub fn start(seed: u64, tally: &Arc<Tally>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let start = move || {
        // Without this, an engine that waits for a packet is never idle.
        let switches = Switches { stop_ends_idle_stream: true, ..Switches::default() };
        let options = Options { stream: true, seed, switches, ..Options::default() };
        EmulatedCard::start(options, Arc::new(Loopback::new())).expect("a card starts anywhere")
    };
    Plan { name: "stream", seed: seed + 2, pause: PAUSE, workers: LANES, start, work }.spawn(tally, stop)
}

struct Lane {
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    source: Buffer,
    index: usize,
    unused: Unused,
    /// Packets may have been cut or lost, and parts of them may still come.
    dirty: bool,
}

fn options(rng: &mut StdRng) -> ChannelOptions {
    let ring = if rng.random_bool(0.5) { Ring::Chain } else { Ring::Credits };
    ChannelOptions { ring: Some(ring), wait: Wait::ALL[rng.random_range(1..4)], ..ChannelOptions::default() }
}

fn sender(session: &Session<'_>, index: usize, rng: &mut StdRng) -> Result<Sender, CardError> {
    session.card.stream_h2c(index, options(rng))
}

fn receiver(session: &Session<'_>, index: usize, rng: &mut StdRng) -> Result<Receiver, CardError> {
    let (buffers, bytes) = BUFFERS;
    let options = ReceiverOptions { channel: options(rng), buffers, bytes, ..ReceiverOptions::default() };
    session.card.stream_c2h(index, options)
}

impl Lane {
    fn open(session: &Session<'_>, index: usize, rng: &mut StdRng) -> Result<Self, CardError> {
        let (sender, receiver) = (Some(sender(session, index, rng)?), Some(receiver(session, index, rng)?));
        let source = session.card.allocate(LONGEST as u64, Direction::H2C)?;
        // Packets of the one before may still be in the loopback.
        Ok(Self { sender, receiver, source, index, unused: Unused::default(), dirty: true })
    }

    /// Sends a packet.
    fn send(&mut self, rng: &mut StdRng) -> Result<Vec<u8>, EngineError> {
        let mut packet = vec![0; rng.random_range(16..=LONGEST)];
        rng.fill_bytes(&mut packet);
        self.source.write(0, &packet)?;
        let sender = self.sender.as_mut().ok_or(EngineError::Stopped)?;
        let ticket = sender.send(&self.source, 0..packet.len() as u64)?;
        sender.wait(ticket, LIMIT)?;
        Ok(packet)
    }

    fn receive(&mut self) -> Result<Vec<u8>, EngineError> {
        receive(self.receiver.as_mut().ok_or(EngineError::Stopped)?)
    }

    /// A packet there and back; its bytes, and whether it came back as it went.
    fn round(&mut self, rng: &mut StdRng) -> Result<(u64, bool), EngineError> {
        let packet = self.send(rng)?;
        Ok((2 * packet.len() as u64, self.receive()? == packet))
    }

    /// Sends packets until one comes back whole: what comes before it is left from packets that were cut.
    fn clean(&mut self, session: &Session<'_>, rng: &mut StdRng) -> Result<(), EngineError> {
        while self.dirty && !session.is_over() {
            let packet = self.send(rng)?;
            while self.dirty {
                match self.receive() {
                    Ok(received) => self.dirty = received != packet,
                    // It went into a packet that was cut.
                    Err(EngineError::Deadline { .. }) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn recover(&mut self) -> Result<(), EngineError> {
        self.sender.as_mut().map_or(Ok(()), Sender::recover)?;
        self.receiver.as_mut().map_or(Ok(()), Receiver::recover)
    }

    /// Ends the sender with a packet on its way.
    fn end_sender(&mut self, session: &Session<'_>, rng: &mut StdRng) -> bool {
        let Some(mut sender) = self.sender.take() else { return true };
        let (how, blind) = (session.choose_end(rng), rng.random_bool(0.5));
        if blind {
            session.hold_up(Direction::H2C, self.index, rng);
        }
        if let Err(error) = sender.send(&self.source, 0..rng.random_range(1..=LONGEST as u64)) {
            session.tally.engine_error("stream: ", &error);
        }
        if blind {
            session.all_ones(rng);
        }
        session.end(how, sender, Sender::close)
    }

    /// Ends the receiver, whose engine waits for packets.
    fn end_receiver(&mut self, session: &Session<'_>, rng: &mut StdRng) -> bool {
        let Some(receiver) = self.receiver.take() else { return true };
        let (how, blind) = (session.choose_end(rng), rng.random_bool(0.5));
        if blind {
            session.all_ones(rng);
        }
        session.end(how, receiver, Receiver::close)
    }

    /// Ends a channel or both, and opens them again; false if that will not be possible.
    fn renew(&mut self, session: &Session<'_>, rng: &mut StdRng) -> Result<bool, CardError> {
        self.dirty = true;
        let which = rng.random_range(1..4);
        if which & 1 != 0 && !self.end_sender(session, rng)
            || which & 2 != 0 && !self.end_receiver(session, rng)
        {
            return Ok(false);
        }
        self.unused.renew(session)?;
        self.source = session.card.allocate(LONGEST as u64, Direction::H2C)?;
        if self.sender.is_none() {
            self.sender = Some(session.patiently(|| sender(session, self.index, rng))?);
        }
        if self.receiver.is_none() {
            self.receiver = Some(session.patiently(|| receiver(session, self.index, rng))?);
        }
        Ok(true)
    }
}

fn receive(receiver: &mut Receiver) -> Result<Vec<u8>, EngineError> {
    let mut packet = vec![];
    loop {
        let received = receiver.wait(LIMIT)?;
        let start = packet.len();
        packet.resize(start + received.len(), 0);
        receiver.read(&received, 0, &mut packet[start..])?;
        let ends = received.ends_packet();
        receiver.give_back(received)?;
        if ends {
            return Ok(packet);
        }
    }
}

fn work(session: &Session<'_>, index: usize, rng: &mut StdRng) {
    let tally = session.tally;
    let mut lane = match session.patiently(|| Lane::open(session, index, rng)) {
        Ok(lane) => lane,
        Err(_) if session.left() => return,
        Err(error) => return tally.unexplained(format!("stream {index} does not open: {error}")),
    };
    let mut failed: Option<Instant> = None;
    while !session.is_over() {
        let (mut renew, mut recovered): (bool, Result<(), EngineError>) = (rng.random_bool(0.01), Ok(()));
        let round = lane.clean(session, rng).and_then(|()| lane.round(rng));
        // A session that is over leaves the stream as it is.
        if session.is_over() {
            return;
        }
        match round {
            Ok((bytes, right)) => {
                if let Some(since) = failed.take() {
                    tally.recovery("stream recovered", since.elapsed());
                }
                if right {
                    tally.job(bytes)
                } else {
                    tally.mismatch(format!("stream {index}: another packet came back"))
                }
            }
            Err(error) => {
                lane.dirty = true;
                tally.engine_error("stream: ", &error);
                failed.get_or_insert_with(Instant::now);
                renew |= rng.random_bool(0.3);
                if !renew {
                    recovered = session.patiently(|| lane.recover());
                }
            }
        }
        match recovered
            .map_err(CardError::from)
            .and_then(|()| if renew { lane.renew(session, rng) } else { Ok(true) })
        {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) if session.left() => return,
            Err(error) => return tally.unexplained(format!("stream {index} does not work again: {error}")),
        }
    }
}
