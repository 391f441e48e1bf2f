//! Moves the payload of one descriptor between host memory and the custom logic.
//!
//! The logic accesses host memory directly through a view, so every byte is copied only once. A view covers only a few pieces at
//! a time, so that an unmap does not have to wait for a whole descriptor.

use super::channel::{ChannelModel, Shared};
use super::engine::{Engine, Step, is_fixed};
use super::faults::{InjectionPoint, Kind};
use super::guest::AccessKind;
use super::log::{DmaFaultReason, Purpose, add};
use super::logic::{AxiResponse, Burst};
use super::options::Behaviour;
use std::time::Instant;
use vm_memory::VolatileSlice;
use xdma_regs::channel::{Control, Status};
use xdma_regs::descriptor::{Descriptor, Flags};

/// The boundary that AXI bursts do not cross.
const PAGE: u64 = 4096;
/// The maximum size of a view in bytes.
const WINDOW: u64 = 16 * PAGE;
/// The granularity of C2H stream buffers in bytes (PG195, "DMA C2H Stream").
const STREAM_GRANULARITY: u64 = 64;
/// The magic of a C2H stream descriptor's metadata (PG195, "C2H Stream Writeback").
const METADATA: u32 = 0x52b4_0000;

/// A descriptor in progress.
#[derive(Debug)]
pub(super) struct Transfer {
    descriptor: Descriptor,
    /// Bytes moved, or at least accepted by the logic.
    done: u64,
    /// The number of writes that the logic accepted but has not answered.
    accepted: usize,
    /// Whether the transfer was checked against the channel's mode.
    checked: bool,
    fixed: bool,
    /// The time since which the logic has not accepted or answered anything.
    waits_since: Option<Instant>,
}

/// The reason why a series of pieces ended.
enum Outcome {
    /// The view is exhausted, or less than one piece of it remains.
    Moved,
    Wait,
    Error(Status),
    /// The stream's packet ended.
    Packet,
}

/// The number of bytes moved, and the reason why the series ended.
type Progress = (u64, Outcome);

impl Transfer {
    pub fn new(descriptor: Descriptor) -> Self {
        Self { descriptor, done: 0, accepted: 0, checked: false, fixed: false, waits_since: None }
    }

    /// Returns whether this is a C2H stream transfer that has not received any data.
    pub fn is_idle_stream(&self, channel: &ChannelModel) -> bool {
        channel.stream && !channel.is_h2c() && self.done == 0
    }

    /// Returns when the shell ends the AXI transaction for which this transfer waits.
    pub fn deadline(&self, channel: &ChannelModel) -> Option<Instant> {
        self.waits_since.and_then(|since| channel.shared.axi_timeout.deadline(since))
    }

    fn length(&self) -> u64 {
        u64::from(self.descriptor.length)
    }

    fn left(&self) -> u64 {
        self.length() - self.done
    }

    fn host(&self, channel: &ChannelModel) -> u64 {
        let base = if channel.is_h2c() { self.descriptor.source } else { self.descriptor.destination };
        base.wrapping_add(self.done)
    }

    /// Returns the card address, `ahead` bytes beyond the current position.
    fn card(&self, channel: &ChannelModel, ahead: u64) -> u64 {
        let base = if channel.is_h2c() { self.descriptor.destination } else { self.descriptor.source };
        if self.fixed { base } else { base.wrapping_add(self.done).wrapping_add(ahead) }
    }

    fn burst(&self) -> Burst {
        if self.fixed { Burst::Fixed } else { Burst::Increment }
    }

    /// Moves as much as possible. If it has to wait, suspends the transfer in the engine.
    pub fn advance(mut self, engine: &mut Engine, channel: &ChannelModel) -> Step {
        if !self.checked {
            self.checked = true;
            self.fixed = !channel.stream && is_fixed(channel);
            if let Some(error) = self.mode_error(channel)
                && channel.report(error, false)
            {
                return engine.halt(channel);
            }
        }
        while self.left() > 0 {
            if channel.aborted() || !channel.shared.link.bus_master() {
                return engine.suspend(self);
            }
            if self.collect_responses(channel) {
                return engine.halt(channel);
            }
            let (moved, outcome) = self.move_window(engine, channel);
            self.done += moved;
            if moved > 0 {
                self.waits_since = None;
                engine.throttle(channel, moved);
            }
            match outcome {
                Outcome::Moved => {}
                Outcome::Wait => {
                    self.waits_since.get_or_insert_with(Instant::now);
                    return engine.suspend(self);
                }
                Outcome::Packet => return self.finish(engine, channel, true),
                Outcome::Error(error) if channel.report(error, false) => return engine.halt(channel),
                // An error that is not logged: the piece counts as moved.
                Outcome::Error(_) => self.done += self.piece(channel, 0).min(self.left()),
            }
        }
        if self.collect_responses(channel) {
            return engine.halt(channel);
        }
        if self.accepted > 0 && !self.responses_time_out(channel) {
            self.waits_since.get_or_insert_with(Instant::now);
            return engine.suspend(self);
        }
        self.finish(engine, channel, false)
    }

    /// Collects pending responses. Returns whether one of them is an error that stops the engine.
    fn collect_responses(&mut self, channel: &ChannelModel) -> bool {
        while self.accepted > 0 {
            let response = channel.shared.logic.response(channel.id.index);
            if response == AxiResponse::Wait {
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

    /// Returns whether the shell ends the writes that the logic accepted but did not answer.
    fn responses_time_out(&self, channel: &ChannelModel) -> bool {
        let over = channel.shared.axi_timeout.expires(self.waits_since, Instant::now);
        if over {
            add(&channel.shared.log.count.axi_timeouts, self.accepted as u64);
            channel.shared.logic.discard_responses(channel.id.index);
        }
        over
    }

    /// Returns the error if the descriptor violates the alignment rules of the mode (PG195, "Alignment").
    fn mode_error(&self, channel: &ChannelModel) -> Option<Status> {
        let Descriptor { source, destination, .. } = self.descriptor;
        let Shared { options, behaviour, .. } = &*channel.shared;
        if !channel.stream {
            let rule =
                if self.fixed { options.card.fixed_alignment() } else { options.card.channels.alignment };
            let aligned = (source | destination).is_multiple_of(rule.address.into())
                && self.length().is_multiple_of(rule.length.into());
            return (!aligned).then_some(Status::ALIGN_MISMATCH);
        }
        let granularity = if behaviour.narrow_stream_buffers { behaviour.beat } else { STREAM_GRANULARITY };
        (!channel.is_h2c() && !self.length().is_multiple_of(granularity)).then_some(Status::INVALID_LENGTH)
    }

    fn finish(self, engine: &mut Engine, channel: &ChannelModel, packet: bool) -> Step {
        if channel.stream && !channel.is_h2c() && !channel.registers().bit(Control::STREAM_WRITE_BACK_OFF) {
            let Behaviour { narrow_stream_buffers, beat, .. } = channel.shared.behaviour;
            let length = if narrow_stream_buffers { self.done.next_multiple_of(beat) } else { self.done };
            let words = [METADATA | u32::from(packet), length as u32];
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&words[0].to_le_bytes());
            bytes[4..].copy_from_slice(&words[1].to_le_bytes());
            engine.post(channel, self.descriptor.source, &bytes, Purpose::Metadata);
        }
        engine.complete(channel, &self.descriptor, self.done)
    }

    /// Returns the size of the piece that starts `ahead` bytes beyond the current position: up to the next 4 KiB boundary of card
    /// addresses.
    fn piece(&self, channel: &ChannelModel, ahead: u64) -> u64 {
        let room = if channel.stream { WINDOW } else { PAGE - self.card(channel, ahead) % PAGE };
        room.min(self.left() - ahead)
    }

    /// Moves pieces through one view of host memory.
    fn move_window(&mut self, engine: &mut Engine, channel: &ChannelModel) -> Progress {
        let point = if channel.is_h2c() { InjectionPoint::HostRead } else { InjectionPoint::HostWrite };
        match channel.fault_at(point) {
            Some(Kind::HostRead(with)) => return (0, Outcome::Error(with.of_host_read())),
            Some(Kind::HostWriteDropped) => return self.discard_piece(engine, channel),
            _ => {}
        }
        let access = if channel.is_h2c() { AccessKind::Read } else { AccessKind::Write };
        let host = self.host(channel);
        // A view ends at a piece boundary, so only the end of a map can split a piece.
        let room = WINDOW - if channel.stream { 0 } else { self.card(channel, 0) % PAGE };
        let most = room.min(self.left()) as usize;
        let guest = &channel.shared.guest;
        let run = engine.payload.with(guest, host, most, access, |data| self.move_pieces(channel, data));
        match run {
            // The piece spans two maps.
            Ok((0, Outcome::Moved)) => self.bounce(engine, channel),
            Ok(run) => run,
            Err(reason) => self.refused(engine, channel, host, reason),
        }
    }

    fn move_pieces(&mut self, channel: &ChannelModel, data: &VolatileSlice<'_>) -> Progress {
        let mut done = 0;
        while done < data.len() as u64 {
            let piece = self.piece(channel, done);
            let here = piece.min(data.len() as u64 - done);
            if here < piece && !channel.stream {
                break;
            }
            let view = data.subslice(done as usize, here as usize).expect("inside the view");
            let (moved, outcome) = self.offer_piece(channel, done, &view);
            done += moved;
            if !matches!(outcome, Outcome::Moved) {
                return (done, outcome);
            }
        }
        (done, Outcome::Moved)
    }

    /// Returns whether the shell times out this transaction. If so, a read returns all ones.
    fn times_out(&self, channel: &ChannelModel, ahead: u64, data: &VolatileSlice<'_>) -> bool {
        // Later pieces have not been offered yet, so they have not waited.
        let since = self.waits_since.filter(|_| ahead == 0);
        let over = !channel.stream && channel.shared.axi_timeout.expires(since, Instant::now);
        if over {
            add(&channel.shared.log.count.axi_timeouts, 1);
            if !channel.is_h2c() {
                data.copy_from(&[0xff_u8; PAGE as usize][..data.len()]);
            }
        }
        over
    }

    /// Offers one piece to the logic.
    fn offer_piece(&mut self, channel: &ChannelModel, ahead: u64, data: &VolatileSlice<'_>) -> Progress {
        if self.times_out(channel, ahead, data) {
            return (data.len() as u64, Outcome::Moved);
        }
        if let Some(run) = self.injected_fault(channel, ahead, data.len() as u64) {
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
            AxiResponse::Accepted => {
                self.accepted += 1;
                (data.len() as u64, Outcome::Moved)
            }
            AxiResponse::Okay(n) if n > 0 => {
                let outcome = if packet { Outcome::Packet } else { Outcome::Moved };
                (n.min(data.len()) as u64, outcome)
            }
            _ => (0, Outcome::Wait),
        }
    }

    /// Returns the effect of an injected fault on a burst of `len` bytes.
    #[inline]
    fn injected_fault(&self, channel: &ChannelModel, ahead: u64, len: u64) -> Option<Progress> {
        // Check once per burst whether any fault could be due.
        if channel.shared.faults.is_armed() { self.inject_fault(channel, ahead, len) } else { None }
    }

    fn inject_fault(&self, channel: &ChannelModel, ahead: u64, len: u64) -> Option<Progress> {
        if channel.is_hung() {
            return Some((0, Outcome::Wait));
        }
        // This burst is a retry after a wait, and was counted before.
        if ahead == 0 && self.waits_since.is_some() {
            return None;
        }
        if channel.is_h2c() && channel.fault_at(InjectionPoint::BurstWrite).is_some() {
            return Some((len, Outcome::Moved));
        }
        match channel.fault_at(InjectionPoint::Burst)? {
            Kind::AxiDecodeError => Some((0, Outcome::Error(error(channel, AxiResponse::DecodeError)?))),
            Kind::AxiSlaveError => Some((0, Outcome::Error(error(channel, AxiResponse::SlaveError)?))),
            Kind::AxiHang(duration) => {
                channel.hang_until(duration.until());
                Some((0, Outcome::Wait))
            }
            _ => None,
        }
    }

    /// Moves one piece through the engine's bounce buffer.
    fn bounce(&mut self, engine: &mut Engine, channel: &ChannelModel) -> Progress {
        let piece = self.piece(channel, 0) as usize;
        let (host, guest) = (self.host(channel), &channel.shared.guest);
        let mut page = std::mem::take(&mut engine.page);
        let bytes = &mut page[..piece];
        let refused = if channel.is_h2c() { engine.payload.read(guest, host, bytes) } else { Ok(()) };
        let run = match refused {
            Ok(()) => self.offer_piece(channel, 0, &VolatileSlice::from(&mut bytes[..])),
            Err((iova, reason)) => self.refused(engine, channel, iova, reason),
        };
        if !channel.is_h2c()
            && let Err((iova, reason)) = engine.payload.write(guest, host, &bytes[..run.0 as usize])
        {
            engine.log_dma_fault(channel, iova, true, Purpose::Payload, reason);
        }
        engine.page = page;
        run
    }

    /// Handles a refused access to host memory. A read fails. A write is posted, so the engine does not notice that it is lost.
    fn refused(
        &mut self,
        engine: &mut Engine,
        channel: &ChannelModel,
        iova: u64,
        reason: DmaFaultReason,
    ) -> Progress {
        engine.log_dma_fault(channel, iova, !channel.is_h2c(), Purpose::Payload, reason);
        if channel.is_h2c() {
            return (0, Outcome::Error(Status::READ_ERROR_0));
        }
        self.discard_piece(engine, channel)
    }

    /// Moves a piece between the logic and the bounce buffer, so that it does not reach host memory.
    fn discard_piece(&mut self, engine: &mut Engine, channel: &ChannelModel) -> Progress {
        let piece = self.piece(channel, 0).min(PAGE) as usize;
        self.offer_piece(channel, 0, &VolatileSlice::from(&mut engine.page[..piece]))
    }
}

/// Returns the status bit for an error response.
fn error(channel: &ChannelModel, answer: AxiResponse) -> Option<Status> {
    match (answer, channel.is_h2c()) {
        (AxiResponse::DecodeError, true) => Some(Status::WRITE_DECODE_ERROR),
        (AxiResponse::DecodeError, false) => Some(Status::READ_ERROR_0),
        (AxiResponse::SlaveError, true) => Some(Status::WRITE_SLAVE_ERROR),
        (AxiResponse::SlaveError, false) => Some(Status::READ_ERROR_1),
        _ => None,
    }
}
