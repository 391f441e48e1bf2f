//! The engine behind a channel's registers: fetches descriptors, moves what they say, reports.
//!
//! It is a machine that can stop anywhere it must wait, so that the channel's thread or, in the synchronous setting, the
//! doorbell's write can drive it. The order of what the host sees is payload, count, status, write-back, interrupt.

use super::channel::{Channel, Order, Shared};
use super::faults::{Kind, Occasion};
use super::guest::Cursor;
use super::log::{Fault, Purpose, Refusal, Rule, add};
use super::transfer::Transfer;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};
use xdma_regs::channel::{Control, Status};
use xdma_regs::descriptor::{DESCRIPTOR_BYTES, Descriptor, Flags, MAX_LENGTH};

/// Descriptors that the engine holds at most. Silicon's buffer of 512 or 1024 is shared by the channels of a direction
/// (PG195, "Descriptor Fetch").
const BUFFER: usize = 128;
/// Bytes of a descriptor as an array length.
const BYTES: usize = DESCRIPTOR_BYTES as usize;
/// The block rule's page, and PCIe's limit of a request.
const PAGE: u64 = 4096;

/// What lies in the descriptor buffer.
#[derive(Clone, Copy, Debug)]
enum Fetched {
    Descriptor(Descriptor),
    BadMagic,
    /// No data came: the error that the fetch ended with.
    Failed(Status),
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more to do at once.
    Again,
    /// Nothing to do before the bell rings.
    Wait,
}

/// The state of an engine.
pub(super) struct Engine {
    rng: StdRng,
    fetched: VecDeque<Fetched>,
    /// Where the next request for descriptors goes, and how many lie adjacent after the first.
    next: u64,
    adjacent: u32,
    /// A Stop or an error was fetched: nothing comes after it.
    ended: bool,
    current: Option<Transfer>,
    descriptors: Cursor,
    reports: Cursor,
    pub(super) payload: Cursor,
    /// A page for payload that lies in two maps, or that goes nowhere.
    pub(super) page: Vec<u8>,
    /// A write-back that a fault sends again, after the next.
    repeated: Option<(u64, u32)>,
}

impl Engine {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            fetched: VecDeque::with_capacity(BUFFER),
            next: 0,
            adjacent: 0,
            ended: false,
            current: None,
            descriptors: Cursor::default(),
            reports: Cursor::default(),
            payload: Cursor::default(),
            page: vec![0; PAGE as usize],
            repeated: None,
        }
    }

    /// Drops everything fetched and begun.
    pub fn clear(&mut self, channel: &Channel) {
        if channel.is_h2c() && !channel.stream {
            channel.shared.logic.forget(channel.id.index);
        }
        self.fetched.clear();
        self.current = None;
        self.ended = false;
    }

    /// As after power-up.
    pub fn reset(&mut self, channel: &Channel) {
        self.clear(channel);
        self.repeated = None;
    }

    /// Does what there is to do; returns when there is more, if that is known.
    pub fn drive(&mut self, channel: &Channel) -> Option<Instant> {
        while !channel.aborted() && self.step(channel) == Step::Again {}
        self.deadline(channel)
    }

    fn deadline(&self, channel: &Channel) -> Option<Instant> {
        let shell = self.current.as_ref()?.deadline(channel);
        [shell, channel.hang_end()].into_iter().flatten().min()
    }

    /// As [`Engine::drive`], but for no longer than `limit`; false if there is more to do, now or later.
    pub fn drive_for(&mut self, channel: &Channel, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !channel.aborted() && self.step(channel) == Step::Again {
            if Instant::now() > end {
                return false;
            }
        }
        self.deadline(channel).is_none()
    }

    fn step(&mut self, channel: &Channel) -> Step {
        match channel.order() {
            Order::Rest => Step::Wait,
            Order::Launch { start, adjacent } => {
                self.clear(channel);
                (self.next, self.adjacent) = (start, adjacent);
                Step::Again
            }
            Order::Stop if self.may_stop(channel) => {
                self.clear(channel);
                channel.stopped();
                Step::Again
            }
            Order::Stop | Order::Run => match self.current.take() {
                Some(transfer) => transfer.proceed(self, channel),
                None => self.begin(channel),
            },
        }
    }

    /// A descriptor that was begun is finished first; if the AXI side never answers, for ever. A request that was never
    /// issued, since bus mastering is off, is dropped.
    fn may_stop(&self, channel: &Channel) -> bool {
        let ends_idle = channel.shared.options.switches.stop_ends_idle_stream;
        match &self.current {
            None => true,
            Some(transfer) => {
                !channel.shared.link.bus_master() || ends_idle && transfer.is_idle_stream(channel)
            }
        }
    }

    /// Puts a descriptor back that has to wait.
    pub(super) fn suspend(&mut self, transfer: Transfer) -> Step {
        self.current = Some(transfer);
        Step::Wait
    }

    /// Begins the next descriptor, fetching as needed.
    fn begin(&mut self, channel: &Channel) -> Step {
        if self.wants_fetch() && self.fetch(channel) == Step::Wait && self.fetched.is_empty() {
            return Step::Wait;
        }
        match self.fetched.pop_front() {
            Some(Fetched::Descriptor(descriptor)) => {
                if descriptor.flags.contains(Flags::COMPLETED) && channel.strike(Occasion::Begin).is_some() {
                    let early = channel.early_write_back();
                    self.write_back(channel, early);
                }
                self.current = Some(Transfer::new(descriptor));
                Step::Again
            }
            // Seen on hardware together: a refused fetch also leaves no magic number.
            Some(Fetched::Failed(error)) => self.fail(channel, error | Status::MAGIC_STOPPED),
            Some(Fetched::BadMagic) => self.fail(channel, Status::MAGIC_STOPPED),
            None => Step::Again,
        }
    }

    /// An empty buffer must be filled; otherwise now and then, so that what lies ahead is fetched early at times.
    fn wants_fetch(&mut self) -> bool {
        let room = self.fetched.len() < BUFFER;
        !self.ended && (self.fetched.is_empty() || room && self.rng.random_range(0..4) == 0)
    }

    /// An error of the descriptor list: it stops the engine, logged or not.
    fn fail(&mut self, channel: &Channel, error: Status) -> Step {
        channel.report(error, true);
        self.halt(channel)
    }

    /// Stops after a panic in the middle of a step.
    pub fn abandon(&mut self, channel: &Channel) {
        self.page = vec![0; PAGE as usize];
        self.halt(channel);
    }

    /// Stops after an error.
    pub(super) fn halt(&mut self, channel: &Channel) -> Step {
        self.clear(channel);
        let write_back = channel.halt();
        self.write_back(channel, write_back);
        channel.interrupt();
        Step::Again
    }

    fn fetch(&mut self, channel: &Channel) -> Step {
        let Some(allowed) = channel.fetch_allowance() else {
            // What came in between must not be slept through.
            let starves = !self.fetched.is_empty() || channel.starve();
            return if starves { Step::Wait } else { Step::Again };
        };
        if !channel.shared.link.bus_master() {
            return Step::Wait;
        }
        self.check_block(channel);
        let count = self.request_length(channel, allowed);
        channel.take_credits(count);
        self.delay(channel, channel.shared.options.latency.fetch);
        self.request(channel, count);
        Step::Again
    }

    fn check_block(&self, channel: &Channel) {
        let block = u64::from(self.adjacent + 1) * DESCRIPTOR_BYTES;
        if !self.next.is_multiple_of(DESCRIPTOR_BYTES) {
            channel.violation(Rule::DescriptorAlignment, self.next);
        }
        if self.next % PAGE + block > PAGE {
            channel.violation(Rule::BlockCrossesPage, self.next);
        }
    }

    /// One request covers as many descriptors as the block, the read request, free buffers and credits allow, or fewer:
    /// where it ends is the engine's own affair, so a list must be right wherever that is.
    fn request_length(&mut self, channel: &Channel, allowed: usize) -> usize {
        let request = channel.shared.link.read_request_bytes();
        let bytes = match channel.shared.options.switches.aligned_fetch {
            true => request - self.next % request,
            false => request,
        };
        let limit = (bytes / DESCRIPTOR_BYTES).max(1) as usize;
        let most = limit.min(self.adjacent as usize + 1).min(BUFFER - self.fetched.len()).min(allowed);
        if self.rng.random_bool(0.5) { most } else { self.rng.random_range(1..=most) }
    }

    fn request(&mut self, channel: &Channel, count: usize) {
        let counting = &channel.shared.log.count;
        add(&counting.fetch_requests, 1);
        let mut buffer = [0; PAGE as usize];
        let bytes = &mut buffer[..count * BYTES];
        let (start, adjacent) = (self.next, self.adjacent as usize);
        if let Some(Kind::Fetch(with)) = channel.strike(Occasion::Fetch) {
            return self.fetch_failed(with.of_fetch());
        }
        if let Err((iova, refusal)) = self.read_block(channel, bytes) {
            self.refused(channel, iova, false, Purpose::Fetch, refusal);
            return self.fetch_failed(Status::DESC_UNSUPPORTED_REQUEST);
        }
        for (index, bytes) in bytes.chunks_exact(BYTES).enumerate() {
            add(&counting.descriptors_fetched, 1);
            let at = start.wrapping_add(index as u64 * DESCRIPTOR_BYTES);
            if self.take(channel, at, words(bytes), adjacent - index) {
                break;
            }
        }
    }

    fn fetch_failed(&mut self, error: Status) {
        self.fetched.push_back(Fetched::Failed(error));
        self.ended = true;
    }

    /// A request does not leave its page: the address wraps inside it.
    fn read_block(&mut self, channel: &Channel, bytes: &mut [u8]) -> Result<(), (u64, Refusal)> {
        let guest = &channel.shared.guest;
        let here = bytes.len().min((PAGE - self.next % PAGE) as usize);
        let (front, wrapped) = bytes.split_at_mut(here);
        self.descriptors.read(guest, self.next, front)?;
        self.descriptors.read(guest, self.next & !(PAGE - 1), wrapped)
    }

    /// Takes the descriptor at `address`, after which `follow` more lie in its block; true if it ends the list.
    fn take(&mut self, channel: &Channel, address: u64, words: [u32; 8], follow: usize) -> bool {
        let good = Descriptor::from_words(words).filter(|_| channel.strike(Occasion::Descriptor).is_none());
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
        // The next request continues from the last descriptor fetched, wherever in its block that was.
        (self.next, self.adjacent) = (descriptor.next, u32::from(descriptor.next_adjacent));
        self.ended
    }

    /// A descriptor's payload is done.
    pub(super) fn complete(&mut self, channel: &Channel, descriptor: &Descriptor, bytes: u64) -> Step {
        let count = &channel.shared.log.count;
        add(if channel.is_h2c() { &count.h2c_bytes } else { &count.c2h_bytes }, bytes);
        add(&count.descriptors_completed, 1);
        if descriptor.flags.contains(Flags::COMPLETED) {
            self.delay(channel, channel.shared.options.latency.completion);
        }
        let write_back = channel.finish(descriptor, bytes);
        self.write_back(channel, write_back);
        channel.interrupt();
        let lag = channel.shared.options.switches.busy_lag;
        if descriptor.flags.contains(Flags::STOP) && !lag.is_zero() {
            pause(channel, lag);
            channel.end_list(&mut channel.registers());
        }
        Step::Again
    }

    fn write_back(&mut self, channel: &Channel, write_back: Option<(u64, u32)>) {
        let Some((iova, word)) = write_back else { return };
        let again = self.repeated.take();
        match channel.strike(Occasion::WriteBack) {
            Some(Kind::WriteBackDropped) => return,
            Some(Kind::WriteBackDelayed(millis)) => pause(channel, Duration::from_millis(millis)),
            Some(Kind::WriteBackRepeated) => self.repeated = write_back,
            _ => {}
        }
        for (iova, word) in std::iter::once((iova, word)).chain(again) {
            add(&channel.shared.log.count.write_backs, 1);
            // Who polls the word reads payload next: that must be there first.
            fence(Ordering::Release);
            self.post(channel, iova, &word.to_le_bytes(), Purpose::WriteBack);
        }
    }

    /// A write that nobody acknowledges: if it is refused it is gone.
    pub(super) fn post(&mut self, channel: &Channel, iova: u64, bytes: &[u8], purpose: Purpose) {
        if let Err((iova, refusal)) = self.reports.write(&channel.shared.guest, iova, bytes) {
            self.refused(channel, iova, true, purpose, refusal);
        }
    }

    pub(super) fn refused(
        &self,
        channel: &Channel,
        iova: u64,
        write: bool,
        purpose: Purpose,
        refusal: Refusal,
    ) {
        channel.shared.log.fault(Fault { iova, write, purpose, refusal, channel: channel.id });
    }

    /// Takes as long as the link takes for so many bytes.
    pub(super) fn pass_link(&self, channel: &Channel, bytes: u64) {
        let Shared { options, pace, .. } = &*channel.shared;
        let time = pace.pass(channel.id.direction, bytes, Instant::now);
        if let Some(time) = time.filter(|_| !options.synchronous) {
            pause(channel, time);
        }
    }

    /// Takes a random time up to `limit`.
    fn delay(&mut self, channel: &Channel, limit: Duration) {
        if !channel.shared.options.synchronous && !limit.is_zero() {
            let nanos = self.rng.random_range(0..=limit.as_nanos() as u64);
            pause(channel, Duration::from_nanos(nanos));
        }
    }
}

/// Waits, but not for a channel that is being reset. Short times are spun, since sleeping takes longer than they are.
pub(super) fn pause(channel: &Channel, time: Duration) {
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

/// What a descriptor must not be.
fn check(channel: &Channel, address: u64, words: [u32; 8]) {
    const KNOWN_FLAGS: u32 = 0x13;
    if words[0] & 0xc000 != 0 || words[0] & 0xff & !KNOWN_FLAGS != 0 || words[1] & !MAX_LENGTH != 0 {
        channel.violation(Rule::ReservedBits, address);
    }
    if words[1] & MAX_LENGTH == 0 {
        channel.violation(Rule::ZeroLength, address);
    }
}

/// Whether the channel's addresses on the card stay fixed.
pub(super) fn is_fixed(channel: &Channel) -> bool {
    channel.registers().bit(Control::NON_INCREMENTING)
}
