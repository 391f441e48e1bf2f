//! Moving the payload of one descriptor between host memory and the custom logic.
//!
//! The logic gets views of host memory itself, so every byte is copied once. A view is held for a few pieces at a time, so
//! that unmapping need not wait for a whole descriptor.

use super::channel::Channel;
use super::engine::{Engine, Step, is_fixed};
use super::faults::{Kind, Occasion};
use super::guest::Access;
use super::log::{Purpose, Refusal, add};
use super::logic::{Answer, Burst};
use super::perf::BEAT;
use std::time::Instant;
use vm_memory::VolatileSlice;
use xdma_regs::channel::{Control, Status};
use xdma_regs::descriptor::{Descriptor, Flags};

/// AXI bursts do not cross this.
const PAGE: u64 = 4096;
/// Most bytes viewed at a time.
const WINDOW: u64 = 16 * PAGE;
/// What opens a C2H stream descriptor's metadata (PG195, "C2H Stream Writeback").
const METADATA: u32 = 0x52b4_0000;

/// A descriptor in progress.
#[derive(Debug)]
pub(super) struct Transfer {
    descriptor: Descriptor,
    /// Bytes done, or taken by the logic at least.
    done: u64,
    /// Writes that the logic took and has not answered.
    accepted: usize,
    /// The mode was checked.
    checked: bool,
    fixed: bool,
    /// Since when the logic has neither taken nor answered anything.
    waits_since: Option<Instant>,
}

/// Why a run of pieces ended.
enum Outcome {
    /// The view is used up, or what is left of it is less than a whole piece.
    Moved,
    Wait,
    Error(Status),
    /// The stream ended its packet.
    Packet,
}

/// A run of pieces: bytes done, and why it ended.
type Run = (u64, Outcome);

impl Transfer {
    pub fn new(descriptor: Descriptor) -> Self {
        Self { descriptor, done: 0, accepted: 0, checked: false, fixed: false, waits_since: None }
    }

    /// Whether this waits for the first byte of a stream.
    pub fn is_idle_stream(&self, channel: &Channel) -> bool {
        channel.stream && !channel.is_h2c() && self.done == 0
    }

    /// When the shell ends the AXI transaction that this waits for.
    pub fn deadline(&self, channel: &Channel) -> Option<Instant> {
        self.waits_since.and_then(|since| channel.shared.axi_timeout.deadline(since))
    }

    fn length(&self) -> u64 {
        u64::from(self.descriptor.length)
    }

    fn left(&self) -> u64 {
        self.length() - self.done
    }

    fn host(&self, channel: &Channel) -> u64 {
        let base = if channel.is_h2c() { self.descriptor.source } else { self.descriptor.destination };
        base.wrapping_add(self.done)
    }

    /// The card address `ahead` bytes on.
    fn card(&self, channel: &Channel, ahead: u64) -> u64 {
        let base = if channel.is_h2c() { self.descriptor.destination } else { self.descriptor.source };
        if self.fixed { base } else { base.wrapping_add(self.done).wrapping_add(ahead) }
    }

    fn burst(&self) -> Burst {
        if self.fixed { Burst::Fixed } else { Burst::Increment }
    }

    /// Moves what can be moved; the descriptor goes back to the engine if it must wait.
    pub fn proceed(mut self, engine: &mut Engine, channel: &Channel) -> Step {
        if !self.checked {
            self.checked = true;
            self.fixed = !channel.stream && is_fixed(channel);
            if let Some(error) = self.misuse(channel)
                && channel.report(error, false)
            {
                return engine.halt(channel);
            }
        }
        while self.left() > 0 {
            if channel.aborted() || !channel.shared.link.bus_master() {
                return engine.suspend(self);
            }
            if self.settle(channel) {
                return engine.halt(channel);
            }
            let (moved, outcome) = self.window(engine, channel);
            self.done += moved;
            if moved > 0 {
                self.waits_since = None;
                engine.pass_link(channel, moved);
            }
            match outcome {
                Outcome::Moved => {}
                Outcome::Wait => {
                    self.waits_since.get_or_insert_with(Instant::now);
                    return engine.suspend(self);
                }
                Outcome::Packet => return self.finish(engine, channel, true),
                Outcome::Error(error) if channel.report(error, false) => return engine.halt(channel),
                // Unlogged: the piece counts as moved.
                Outcome::Error(_) => self.done += self.piece(channel, 0).min(self.left()),
            }
        }
        if self.settle(channel) {
            return engine.halt(channel);
        }
        if self.accepted > 0 && !self.gives_up(channel) {
            self.waits_since.get_or_insert_with(Instant::now);
            return engine.suspend(self);
        }
        self.finish(engine, channel, false)
    }

    /// Takes the responses that came; true if one of them is an error that stops the engine.
    fn settle(&mut self, channel: &Channel) -> bool {
        while self.accepted > 0 {
            let response = channel.shared.logic.response(channel.id.index);
            if response == Answer::Wait {
                break;
            }
            self.accepted -= 1;
            self.waits_since = None;
            if error(channel, response).is_some_and(|error| channel.report(error, false)) {
                return true;
            }
        }
        false
    }

    /// Whether the shell ends the writes that the logic took and did not answer.
    fn gives_up(&self, channel: &Channel) -> bool {
        let over = channel.shared.axi_timeout.ends(self.waits_since, Instant::now);
        if over {
            add(&channel.shared.log.count.axi_timeouts, self.accepted as u64);
            channel.shared.logic.forget(channel.id.index);
        }
        over
    }

    /// What the mode does not allow (PG195, "Alignment").
    fn misuse(&self, channel: &Channel) -> Option<Status> {
        let Descriptor { source, destination, .. } = self.descriptor;
        if self.fixed && !(source | destination | self.length()).is_multiple_of(BEAT) {
            return Some(Status::ALIGN_MISMATCH);
        }
        let stream_c2h = channel.stream && !channel.is_h2c();
        (stream_c2h && !self.length().is_multiple_of(BEAT)).then_some(Status::INVALID_LENGTH)
    }

    fn finish(self, engine: &mut Engine, channel: &Channel, packet: bool) -> Step {
        if channel.stream && !channel.is_h2c() && !channel.registers().bit(Control::STREAM_WRITE_BACK_OFF) {
            let words = [METADATA | u32::from(packet), self.done as u32];
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&words[0].to_le_bytes());
            bytes[4..].copy_from_slice(&words[1].to_le_bytes());
            engine.post(channel, self.descriptor.source, &bytes, Purpose::Metadata);
        }
        engine.complete(channel, &self.descriptor, self.done)
    }

    /// Bytes of the piece that is `ahead` bytes on: to the next 4 KiB of the card's addresses.
    fn piece(&self, channel: &Channel, ahead: u64) -> u64 {
        let room = if channel.stream { WINDOW } else { PAGE - self.card(channel, ahead) % PAGE };
        room.min(self.left() - ahead)
    }

    /// Moves pieces through one view of host memory.
    fn window(&mut self, engine: &mut Engine, channel: &Channel) -> Run {
        let occasion = if channel.is_h2c() { Occasion::HostRead } else { Occasion::HostWrite };
        match channel.strike(occasion) {
            Some(Kind::HostRead(with)) => return (0, Outcome::Error(with.of_host_read())),
            Some(Kind::HostWriteDropped) => return self.vanish(engine, channel),
            _ => {}
        }
        let access = if channel.is_h2c() { Access::Read } else { Access::Write };
        let host = self.host(channel);
        // Views end where pieces do, so that only the end of a map cuts one.
        let room = WINDOW - if channel.stream { 0 } else { self.card(channel, 0) % PAGE };
        let most = room.min(self.left()) as usize;
        let guest = &channel.shared.guest;
        let run = engine.payload.with(guest, host, most, access, |data| self.pieces(channel, data));
        match run {
            // A piece that lies in two maps.
            Ok((0, Outcome::Moved)) => self.bounce(engine, channel),
            Ok(run) => run,
            Err(refusal) => self.refused(engine, channel, host, refusal),
        }
    }

    fn pieces(&mut self, channel: &Channel, data: &VolatileSlice<'_>) -> Run {
        let mut done = 0;
        while done < data.len() as u64 {
            let piece = self.piece(channel, done);
            let here = piece.min(data.len() as u64 - done);
            if here < piece && !channel.stream {
                break;
            }
            let view = data.subslice(done as usize, here as usize).expect("inside the view");
            let (moved, outcome) = self.offer(channel, done, &view);
            done += moved;
            if !matches!(outcome, Outcome::Moved) {
                return (done, outcome);
            }
        }
        (done, Outcome::Moved)
    }

    /// The shell ends a transaction instead of the logic; false if the logic may still answer.
    fn times_out(&self, channel: &Channel, ahead: u64, data: &VolatileSlice<'_>) -> bool {
        // What lies ahead has not been offered before, so it has not waited.
        let since = self.waits_since.filter(|_| ahead == 0);
        let over = !channel.stream && channel.shared.axi_timeout.ends(since, Instant::now);
        if over {
            add(&channel.shared.log.count.axi_timeouts, 1);
            if !channel.is_h2c() {
                data.copy_from(&[0xff_u8; PAGE as usize][..data.len()]);
            }
        }
        over
    }

    /// Offers one piece to the logic.
    fn offer(&mut self, channel: &Channel, ahead: u64, data: &VolatileSlice<'_>) -> Run {
        if self.times_out(channel, ahead, data) {
            return (data.len() as u64, Outcome::Moved);
        }
        if let Some(run) = self.goes_wrong(channel, ahead, data.len() as u64) {
            return run;
        }
        let logic = &channel.shared.logic;
        let (index, card) = (channel.id.index, self.card(channel, ahead));
        let at_end = ahead + data.len() as u64 == self.left();
        let last = at_end && self.descriptor.flags.contains(Flags::EOP);
        let (answer, packet) = match (channel.stream, channel.is_h2c()) {
            (true, true) => (logic.stream_in(index, data, last), false),
            (true, false) => logic.stream_out(index, data),
            (false, true) => (logic.write(index, card, self.burst(), data), false),
            (false, false) => (logic.read(index, card, self.burst(), data), false),
        };
        if let Some(error) = error(channel, answer) {
            return (0, Outcome::Error(error));
        }
        match answer {
            Answer::Accepted => {
                self.accepted += 1;
                (data.len() as u64, Outcome::Moved)
            }
            Answer::Okay(n) if n > 0 => {
                let outcome = if packet { Outcome::Packet } else { Outcome::Moved };
                (n.min(data.len()) as u64, outcome)
            }
            _ => (0, Outcome::Wait),
        }
    }

    /// What a fault makes of a burst of `len` bytes.
    #[inline]
    fn goes_wrong(&self, channel: &Channel, ahead: u64, len: u64) -> Option<Run> {
        // One look for each burst, for all that could go wrong.
        if channel.shared.faults.is_used() { self.suffer(channel, ahead, len) } else { None }
    }

    fn suffer(&self, channel: &Channel, ahead: u64, len: u64) -> Option<Run> {
        if channel.hangs() {
            return Some((0, Outcome::Wait));
        }
        // One that the logic let wait is offered again, and is still the same.
        if ahead == 0 && self.waits_since.is_some() {
            return None;
        }
        if channel.is_h2c() && channel.strike(Occasion::BurstWrite).is_some() {
            return Some((len, Outcome::Moved));
        }
        match channel.strike(Occasion::Burst)? {
            Kind::AxiDecodeError => Some((0, Outcome::Error(error(channel, Answer::DecodeError)?))),
            Kind::AxiSlaveError => Some((0, Outcome::Error(error(channel, Answer::SlaveError)?))),
            Kind::AxiHang(lasting) => {
                channel.hang(lasting.until());
                Some((0, Outcome::Wait))
            }
            _ => None,
        }
    }

    /// Moves one piece by way of the engine's own page.
    fn bounce(&mut self, engine: &mut Engine, channel: &Channel) -> Run {
        let piece = self.piece(channel, 0) as usize;
        let (host, guest) = (self.host(channel), &channel.shared.guest);
        let mut page = std::mem::take(&mut engine.page);
        let bytes = &mut page[..piece];
        let refused = if channel.is_h2c() { engine.payload.read(guest, host, bytes) } else { Ok(()) };
        let run = match refused {
            Ok(()) => self.offer(channel, 0, &VolatileSlice::from(&mut bytes[..])),
            Err((iova, refusal)) => self.refused(engine, channel, iova, refusal),
        };
        if !channel.is_h2c()
            && let Err((iova, refusal)) = engine.payload.write(guest, host, &bytes[..run.0 as usize])
        {
            engine.refused(channel, iova, true, Purpose::Payload, refusal);
        }
        engine.page = page;
        run
    }

    /// Host memory refused the access. A read fails; a write is posted, so it vanishes and the engine never knows.
    fn refused(&mut self, engine: &mut Engine, channel: &Channel, iova: u64, refusal: Refusal) -> Run {
        engine.refused(channel, iova, !channel.is_h2c(), Purpose::Payload, refusal);
        if channel.is_h2c() {
            return (0, Outcome::Error(Status::READ_ERROR_0));
        }
        self.vanish(engine, channel)
    }

    /// Takes a piece from the logic that reaches no host memory.
    fn vanish(&mut self, engine: &mut Engine, channel: &Channel) -> Run {
        let piece = self.piece(channel, 0).min(PAGE) as usize;
        self.offer(channel, 0, &VolatileSlice::from(&mut engine.page[..piece]))
    }
}

/// The status bit of an answer that is an error.
fn error(channel: &Channel, answer: Answer) -> Option<Status> {
    match (answer, channel.is_h2c()) {
        (Answer::DecodeError, true) => Some(Status::WRITE_DECODE_ERROR),
        (Answer::DecodeError, false) => Some(Status::READ_ERROR_0),
        (Answer::SlaveError, true) => Some(Status::WRITE_SLAVE_ERROR),
        (Answer::SlaveError, false) => Some(Status::READ_ERROR_1),
        _ => None,
    }
}
