//! The engine behind a channel's registers: fetches descriptors, moves their payload, and reports completion.
//!
//! It is a state machine that can be suspended wherever it has to wait, so either the channel's thread or, in synchronous mode,
//! the write to the doorbell can drive it. The host observes its effects in this order: payload, count, status, write-back,
//! interrupt.

use super::channel::{ChannelModel, EngineCommand, Shared};
use super::faults::{InjectionPoint, Kind};
use super::guest::Cursor;
use super::log::{DmaFault, DmaFaultReason, Purpose, Rule, add};
use super::transfer::Transfer;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};
use xdma_regs::channel::{Control, Status};
use xdma_regs::descriptor::{DESCRIPTOR_BYTES, Descriptor, Flags, MAX_LENGTH};

/// The capacity of the descriptor buffer. On silicon, a buffer of 512 or 1024 descriptors is shared by all channels of a
/// direction (PG195, "Descriptor Fetch").
const DESCRIPTOR_BUFFER: usize = 128;
/// The size of a descriptor, as an array length.
const DESCRIPTOR_LEN: usize = DESCRIPTOR_BYTES as usize;
/// The page of the rule on adjacent blocks, and the maximum size of a PCIe request.
const PAGE: u64 = 4096;

/// An entry of the descriptor buffer.
#[derive(Clone, Copy, Debug)]
enum Fetched {
    Descriptor(Descriptor),
    BadMagic,
    /// The fetch failed with this error.
    Failed(Status),
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more to do immediately.
    Again,
    /// There is nothing to do until the next notification.
    Wait,
}

/// The state of an engine.
pub(super) struct Engine {
    rng: StdRng,
    fetched: VecDeque<Fetched>,
    /// The address of the next descriptor request, and the number of descriptors adjacent after the first.
    next: u64,
    adjacent: u32,
    /// A Stop or an error was fetched, so nothing follows.
    ended: bool,
    current: Option<Transfer>,
    descriptors: Cursor,
    posted_writes: Cursor,
    pub(super) payload: Cursor,
    /// A bounce buffer for payload that spans two maps, or that is discarded.
    pub(super) page: Vec<u8>,
    /// A write-back to repeat after the next one, by an injected fault.
    repeated_write_back: Option<(u64, u32)>,
}

impl Engine {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            fetched: VecDeque::with_capacity(DESCRIPTOR_BUFFER),
            next: 0,
            adjacent: 0,
            ended: false,
            current: None,
            descriptors: Cursor::default(),
            posted_writes: Cursor::default(),
            payload: Cursor::default(),
            page: vec![0; PAGE as usize],
            repeated_write_back: None,
        }
    }

    /// Drops all fetched descriptors and the current transfer.
    pub fn clear(&mut self, channel: &ChannelModel) {
        if channel.is_h2c() && !channel.stream {
            channel.shared.logic.discard_responses(channel.id.index);
        }
        self.fetched.clear();
        self.current = None;
        self.ended = false;
    }

    /// Returns to the power-up state.
    pub fn reset(&mut self, channel: &ChannelModel) {
        self.clear(channel);
        self.repeated_write_back = None;
    }

    /// Does all the work that is possible now. Returns the time at which more work becomes possible, if known.
    pub fn drive(&mut self, channel: &ChannelModel) -> Option<Instant> {
        while !channel.aborted() && self.step(channel) == Step::Again {}
        self.deadline(channel)
    }

    fn deadline(&self, channel: &ChannelModel) -> Option<Instant> {
        let shell = self.current.as_ref()?.deadline(channel);
        [shell, channel.hang_end()].into_iter().flatten().min()
    }

    /// Like [`Engine::drive`], but limited to `limit`. Returns false if more work remains, now or at a later deadline.
    pub fn drive_for(&mut self, channel: &ChannelModel, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !channel.aborted() && self.step(channel) == Step::Again {
            if Instant::now() > end {
                return false;
            }
        }
        self.deadline(channel).is_none()
    }

    fn step(&mut self, channel: &ChannelModel) -> Step {
        match channel.next_command() {
            EngineCommand::Idle => Step::Wait,
            EngineCommand::Launch { start, adjacent } => {
                self.clear(channel);
                (self.next, self.adjacent) = (start, adjacent);
                Step::Again
            }
            EngineCommand::Stop if self.may_stop(channel) => {
                self.clear(channel);
                channel.stopped();
                Step::Again
            }
            EngineCommand::Stop | EngineCommand::Run => match self.current.take() {
                Some(transfer) => transfer.advance(self, channel),
                None => self.begin(channel),
            },
        }
    }

    /// Returns whether the engine may go idle. A descriptor in progress is completed first, even if the AXI side never answers. A
    /// request that was not issued, because bus mastering is off, is dropped.
    fn may_stop(&self, channel: &ChannelModel) -> bool {
        let ends_idle = channel.shared.behaviour.stop_ends_idle_stream;
        match &self.current {
            None => true,
            Some(transfer) => {
                !channel.shared.link.bus_master() || ends_idle && transfer.is_idle_stream(channel)
            }
        }
    }

    /// Keeps a transfer that has to wait.
    pub(super) fn suspend(&mut self, transfer: Transfer) -> Step {
        self.current = Some(transfer);
        Step::Wait
    }

    /// Starts the next descriptor, after fetching as needed.
    fn begin(&mut self, channel: &ChannelModel) -> Step {
        if self.should_fetch() && self.fetch(channel) == Step::Wait && self.fetched.is_empty() {
            return Step::Wait;
        }
        match self.fetched.pop_front() {
            Some(Fetched::Descriptor(descriptor)) => {
                if descriptor.flags.contains(Flags::COMPLETED)
                    && channel.fault_at(InjectionPoint::Begin).is_some()
                {
                    let early = channel.early_write_back();
                    self.write_back(channel, early);
                }
                self.current = Some(Transfer::new(descriptor));
                Step::Again
            }
            // On hardware, both bits were seen together: a refused fetch returns no magic number either.
            Some(Fetched::Failed(error)) => self.fail(channel, error | Status::MAGIC_STOPPED),
            Some(Fetched::BadMagic) => self.fail(channel, Status::MAGIC_STOPPED),
            None => Step::Again,
        }
    }

    /// Returns whether to fetch now: always if the buffer is empty, and otherwise at random, so that descriptors are sometimes
    /// fetched ahead.
    fn should_fetch(&mut self) -> bool {
        let room = self.fetched.len() < DESCRIPTOR_BUFFER;
        !self.ended && (self.fetched.is_empty() || room && self.rng.random_range(0..4) == 0)
    }

    /// Handles an error in the descriptor list, which stops the engine whether or not it is logged.
    fn fail(&mut self, channel: &ChannelModel, error: Status) -> Step {
        channel.report(error, true);
        self.halt(channel)
    }

    /// Stops after a panic in the middle of a step.
    pub fn abandon(&mut self, channel: &ChannelModel) {
        self.page = vec![0; PAGE as usize];
        self.halt(channel);
    }

    /// Stops after an error.
    pub(super) fn halt(&mut self, channel: &ChannelModel) -> Step {
        self.clear(channel);
        let write_back = channel.halt();
        self.write_back(channel, write_back);
        channel.interrupt();
        Step::Again
    }

    fn fetch(&mut self, channel: &ChannelModel) -> Step {
        let Some(allowed) = channel.fetch_allowance() else {
            // If fetching has become possible in the meantime, try again instead of sleeping.
            let starves = !self.fetched.is_empty() || channel.starve();
            return if starves { Step::Wait } else { Step::Again };
        };
        if !channel.shared.link.bus_master() {
            return Step::Wait;
        }
        self.check_block(channel);
        let count = self.request_length(channel, allowed);
        channel.consume_credits(count);
        self.delay(channel, channel.shared.options.latency.fetch);
        self.request(channel, count);
        Step::Again
    }

    fn check_block(&self, channel: &ChannelModel) {
        let block = u64::from(self.adjacent + 1) * DESCRIPTOR_BYTES;
        if !self.next.is_multiple_of(DESCRIPTOR_BYTES) {
            channel.violation(Rule::DescriptorAlignment, self.next);
        }
        if self.next % PAGE + block > PAGE {
            channel.violation(Rule::BlockCrossesPage, self.next);
        }
    }

    /// Returns the number of descriptors to request: at most as many as the block, the read request size, the free buffers and
    /// the credits allow, but often fewer. A list must work wherever the engine ends its requests.
    fn request_length(&mut self, channel: &ChannelModel, allowed: usize) -> usize {
        let request = channel.shared.link.read_request_bytes();
        let bytes = match channel.shared.behaviour.aligned_fetch {
            true => request - self.next % request,
            false => request,
        };
        let limit = (bytes / DESCRIPTOR_BYTES).max(1) as usize;
        let most =
            limit.min(self.adjacent as usize + 1).min(DESCRIPTOR_BUFFER - self.fetched.len()).min(allowed);
        if self.rng.random_bool(0.5) { most } else { self.rng.random_range(1..=most) }
    }

    fn request(&mut self, channel: &ChannelModel, count: usize) {
        let counting = &channel.shared.log.count;
        add(&counting.fetch_requests, 1);
        let mut buffer = [0; PAGE as usize];
        let bytes = &mut buffer[..count * DESCRIPTOR_LEN];
        let (start, adjacent) = (self.next, self.adjacent as usize);
        if let Some(Kind::Fetch(with)) = channel.fault_at(InjectionPoint::Fetch) {
            return self.fetch_failed(with.of_fetch());
        }
        if let Err((iova, reason)) = self.read_block(channel, bytes) {
            self.log_dma_fault(channel, iova, false, Purpose::Fetch, reason);
            return self.fetch_failed(Status::DESC_UNSUPPORTED_REQUEST);
        }
        for (index, bytes) in bytes.chunks_exact(DESCRIPTOR_LEN).enumerate() {
            add(&counting.descriptors_fetched, 1);
            let at = start.wrapping_add(index as u64 * DESCRIPTOR_BYTES);
            if self.accept(channel, at, words(bytes), adjacent - index) {
                break;
            }
        }
    }

    fn fetch_failed(&mut self, error: Status) {
        self.fetched.push_back(Fetched::Failed(error));
        self.ended = true;
    }

    /// Reads the descriptors of a request. A request does not leave its page: its address wraps inside it.
    fn read_block(&mut self, channel: &ChannelModel, bytes: &mut [u8]) -> Result<(), (u64, DmaFaultReason)> {
        let guest = &channel.shared.guest;
        let here = bytes.len().min((PAGE - self.next % PAGE) as usize);
        let (front, wrapped) = bytes.split_at_mut(here);
        self.descriptors.read(guest, self.next, front)?;
        self.descriptors.read(guest, self.next & !(PAGE - 1), wrapped)
    }

    /// Accepts the descriptor at `address`, which `follow` more descriptors follow in its block. Returns whether it ends the
    /// list.
    fn accept(&mut self, channel: &ChannelModel, address: u64, words: [u32; 8], follow: usize) -> bool {
        let good =
            Descriptor::from_words(words).filter(|_| channel.fault_at(InjectionPoint::Descriptor).is_none());
        let Some(descriptor) = good else {
            self.fetched.push_back(Fetched::BadMagic);
            self.ended = true;
            return true;
        };
        check(channel, address, words);
        self.fetched.push_back(Fetched::Descriptor(descriptor));
        self.ended = descriptor.flags.contains(Flags::STOP);
        if self.ended && follow > 0 {
            channel.violation(Rule::StopInsideBlock, address);
        }
        // The next request continues from the last descriptor fetched, wherever that was in its block.
        (self.next, self.adjacent) = (descriptor.next, u32::from(descriptor.next_adjacent));
        self.ended
    }

    /// Completes a descriptor whose payload has been moved.
    pub(super) fn complete(&mut self, channel: &ChannelModel, descriptor: &Descriptor, bytes: u64) -> Step {
        let count = &channel.shared.log.count;
        add(if channel.is_h2c() { &count.h2c_bytes } else { &count.c2h_bytes }, bytes);
        add(&count.descriptors_completed, 1);
        if descriptor.flags.contains(Flags::COMPLETED) {
            self.delay(channel, channel.shared.options.latency.completion);
        }
        let write_back = channel.finish(descriptor, bytes);
        self.write_back(channel, write_back);
        channel.interrupt();
        let lag = channel.shared.behaviour.busy_lag;
        if descriptor.flags.contains(Flags::STOP) && !lag.is_zero() {
            pause(channel, lag);
            channel.end_list(&mut channel.registers());
        }
        Step::Again
    }

    fn write_back(&mut self, channel: &ChannelModel, write_back: Option<(u64, u32)>) {
        let Some((iova, word)) = write_back else { return };
        let again = self.repeated_write_back.take();
        match channel.fault_at(InjectionPoint::WriteBack) {
            Some(Kind::WriteBackDropped) => return,
            Some(Kind::WriteBackDelayed(millis)) => pause(channel, Duration::from_millis(millis)),
            Some(Kind::WriteBackRepeated) => self.repeated_write_back = write_back,
            _ => {}
        }
        for (iova, word) in std::iter::once((iova, word)).chain(again) {
            add(&channel.shared.log.count.write_backs, 1);
            // The host reads the payload after it sees the word, so the payload must be visible first.
            fence(Ordering::Release);
            self.post(channel, iova, &word.to_le_bytes(), Purpose::WriteBack);
        }
    }

    /// Performs a posted write, which is lost silently if it is refused.
    pub(super) fn post(&mut self, channel: &ChannelModel, iova: u64, bytes: &[u8], purpose: Purpose) {
        if let Err((iova, reason)) = self.posted_writes.write(&channel.shared.guest, iova, bytes) {
            self.log_dma_fault(channel, iova, true, purpose, reason);
        }
    }

    pub(super) fn log_dma_fault(
        &self,
        channel: &ChannelModel,
        iova: u64,
        write: bool,
        purpose: Purpose,
        reason: DmaFaultReason,
    ) {
        channel.shared.log.dma_fault(DmaFault { iova, write, purpose, reason, channel: channel.id });
    }

    /// Waits for as long as the link needs to transfer `bytes`.
    pub(super) fn throttle(&self, channel: &ChannelModel, bytes: u64) {
        let Shared { options, throttle, .. } = &*channel.shared;
        let time = throttle.reserve(channel.id.direction, bytes, Instant::now);
        if let Some(time) = time.filter(|_| !options.synchronous) {
            pause(channel, time);
        }
    }

    /// Waits for a random time up to `limit`.
    fn delay(&mut self, channel: &ChannelModel, limit: Duration) {
        if !channel.shared.options.synchronous && !limit.is_zero() {
            let nanos = self.rng.random_range(0..=limit.as_nanos() as u64);
            pause(channel, Duration::from_nanos(nanos));
        }
    }
}

/// Waits, unless the channel is being reset. Spins for short times, because a sleep would take longer.
pub(super) fn pause(channel: &ChannelModel, time: Duration) {
    const SPIN: Duration = Duration::from_micros(50);
    const NAP: Duration = Duration::from_millis(1);
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || channel.aborted() {
            return;
        }
        if left > SPIN {
            std::thread::sleep((left - SPIN).min(NAP));
        } else {
            std::hint::spin_loop();
        }
    }
}

fn words(bytes: &[u8]) -> [u32; 8] {
    std::array::from_fn(|word| {
        let at = 4 * word;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    })
}

/// Checks the words of a descriptor against the rules.
fn check(channel: &ChannelModel, address: u64, words: [u32; 8]) {
    const KNOWN_FLAGS: u32 = 0x13;
    if words[0] & 0xc000 != 0 || words[0] & 0xff & !KNOWN_FLAGS != 0 || words[1] & !MAX_LENGTH != 0 {
        channel.violation(Rule::ReservedBits, address);
    }
    if words[1] & MAX_LENGTH == 0 {
        channel.violation(Rule::ZeroLength, address);
    }
}

/// Returns whether the channel's card addresses are fixed.
pub(super) fn is_fixed(channel: &ChannelModel) -> bool {
    channel.registers().bit(Control::NON_INCREMENTING)
}
