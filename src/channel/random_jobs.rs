//! Random jobs on an engine with registers in memory. It walks the descriptors as an engine does, and reports completions early, late, or
//! only in its count register.

use super::tests::{Fake, MappedBar};
use super::*;
use crate::bus::Bar;
use crate::memory::{Access, Buffer};
use crate::regs::Direction;
use crate::regs::channel::{COMPLETED_COUNT, STATUS, STATUS_RC, Status, WRITE_BACK_LO};
use crate::regs::sgdma::DESCRIPTOR_LO;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Descriptors of the programs. The largest needs more credits than there are.
const PROGRAMS: [u64; 3] = [1, 5, 2500];
const FIRST_DESCRIPTOR: u64 = 0x4000 + DESCRIPTOR_LO as u64;

#[derive(Clone, Debug)]
enum Step {
    Transfer,
    List(u64),
    Program(usize),
    /// The engine executes this many eighths of the descriptors that it has, and reports them.
    Execute(u64, Report),
    Busy(bool),
    /// Polls one of the latest jobs.
    Poll(usize),
    PollOldest,
    Fail,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Report {
    WriteBack,
    /// Without a write-back, [`Channel::check`] finds the completion.
    Lost,
    /// As before, and the write-back follows.
    Late,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let report = prop_oneof![6 => Just(Report::WriteBack), 1 => Just(Report::Lost), 1 => Just(Report::Late)];
    let step = prop_oneof![
        10 => Just(Step::Transfer),
        3 => (2..6u64).prop_map(Step::List),
        4 => (0..PROGRAMS.len()).prop_map(Step::Program),
        16 => (1..9u64, report).prop_map(|(share, report)| Step::Execute(share, report)),
        2 => any::<bool>().prop_map(Step::Busy),
        8 => (0..300usize).prop_map(Step::Poll),
        12 => Just(Step::PollOldest),
        1 => prop_oneof![Just(Step::Fail), Just(Step::Stop)],
    ];
    vec(step, 1..400)
}

/// A job: how many descriptors precede its end since the last recovery, and how it ended.
struct Expected {
    ticket: Ticket,
    end: u64,
    ended: Option<Poll>,
}

/// Returns where the byte at `at` of a program goes: no byte is adjacent to another.
fn card_address(which: usize, at: u64) -> u64 {
    ((which as u64 + 1) << 32) + 2 * at
}

struct Rig {
    fake: Arc<Fake>,
    bar: Arc<dyn Bar>,
    channel: Channel,
    buffer: Buffer,
    programs: Vec<Program>,
    jobs: Vec<Expected>,
    /// Card addresses in the order in which the engine must use them.
    addresses: VecDeque<u64>,
    next_address: u64,
    /// Descriptors submitted, executed, and reported since the last recovery.
    submitted: u64,
    executed: u64,
    reported: u64,
    /// The write-back address of the current run, the descriptor that follows, and how many were executed before the run.
    word: u64,
    at: u64,
    run_base: u64,
}

impl Rig {
    fn new(ring: Ring, mapped: bool) -> Self {
        let fake = Arc::new(Fake::default());
        let bar: Arc<dyn Bar> = if mapped { Arc::new(MappedBar::new()) } else { fake.clone() };
        let channel = fake.open_through(bar.clone(), ring);
        let buffer = channel.space.allocate(1 << 16, Access::CardReads).unwrap();
        let programs = PROGRAMS.iter().enumerate().map(|(which, &count)| {
            let mut transfers = Transfers::new(Direction::H2C);
            for at in 0..count {
                transfers.add(&buffer, at..at + 1, card_address(which, at)).unwrap();
            }
            channel.program(&transfers).unwrap()
        });
        let programs = programs.collect();
        let (jobs, addresses) = (vec![], VecDeque::new());
        let mut rig = Self {
            fake,
            bar,
            channel,
            buffer,
            programs,
            jobs,
            addresses,
            next_address: 1 << 40,
            submitted: 0,
            executed: 0,
            reported: 0,
            word: 0,
            at: 0,
            run_base: 0,
        };
        rig.follow();
        rig
    }

    fn set(&self, register: u32, value: u32) {
        self.bar.write32(register.into(), value).unwrap();
        if register == STATUS {
            self.fake.status.store(value, Ordering::Relaxed);
            self.bar.write32(STATUS_RC.into(), value).unwrap();
        }
    }

    fn address(&self, offset: u64) -> u64 {
        let [low, high] = [0, 4].map(|half| self.bar.read32(offset + half).unwrap());
        u64::from(high) << 32 | u64::from(low)
    }

    /// Follows the channel to a new run, whose write-back has another address.
    fn follow(&mut self) {
        let word = self.address(WRITE_BACK_LO.into());
        if word != self.word {
            (self.word, self.at, self.run_base) = (word, self.address(FIRST_DESCRIPTOR), self.executed);
        }
    }

    fn submit(&mut self, step: &Step) {
        let range = |at: u64| 4096 * at..4096 * at + 64;
        let mut addresses = vec![];
        let submitted = match *step {
            Step::Program(which) => {
                addresses.extend((0..PROGRAMS[which]).map(|at| card_address(which, at)));
                self.channel.run(&self.programs[which])
            }
            Step::List(count) => {
                let mut transfers = Transfers::new(Direction::H2C);
                for at in 0..count {
                    addresses.push(self.next_address + 4096 * at);
                    transfers.add(&self.buffer, range(at), addresses[at as usize]).unwrap();
                }
                self.channel.start(&transfers)
            }
            _ => {
                addresses.push(self.next_address);
                self.channel.submit(&self.buffer, range(0), self.next_address)
            }
        };
        match submitted {
            Ok(ticket) => {
                self.next_address += 1 << 16;
                self.submitted += addresses.len() as u64;
                self.addresses.extend(addresses);
                self.jobs.push(Expected { ticket, end: self.submitted, ended: None });
            }
            Err(error) => assert!(matches!(error, SubmitError::Full { .. }), "{error}"),
        }
    }

    fn execute(&mut self, share: u64, report: Report) {
        self.follow();
        let has = self.channel.engine.progress.posted() - self.executed;
        let count = if self.channel.ring() == Ring::Chain { has } else { (has * share).div_ceil(8) };
        let mut written_back = None;
        for number in 1..=count {
            let words = self.fake.descriptor(self.at);
            let address = u64::from(words[5]) << 32 | u64::from(words[4]);
            assert_eq!(Some(address), self.addresses.pop_front(), "in the order of submission");
            self.executed += 1;
            self.at = u64::from(words[7]) << 32 | u64::from(words[6]);
            if words[0] & 2 != 0 {
                written_back = Some(self.executed);
            }
            assert_eq!(
                words[0] & 1 != 0,
                self.channel.ring() == Ring::Chain && number == count,
                "a chain ends here"
            );
        }
        self.set(COMPLETED_COUNT, (self.executed - self.run_base) as u32);
        if report != Report::WriteBack {
            self.set(STATUS, 0);
            self.channel.check().unwrap();
            self.reported = self.executed;
        }
        if let Some(completed) = written_back
            && report != Report::Lost
        {
            self.fake.write_word(self.word, (completed - self.run_base) as u32 & 0xff_ffff);
            self.reported = self.reported.max(completed);
        }
    }

    fn poll(&mut self, at: usize) {
        let Some(job) = self.jobs.get(at) else { return };
        let wanted = job.ended.unwrap_or(if job.end <= self.reported { Poll::Ready } else { Poll::Pending });
        match self.channel.poll(job.ticket) {
            Ok(poll) => assert_eq!(poll, wanted, "job {at}"),
            // `Pending` stands for a failure of a job that has ended.
            Err(error) => assert_eq!(job.ended, Some(Poll::Pending), "job {at}: {error}"),
        }
        self.follow();
    }

    fn oldest(&self) -> usize {
        self.jobs.partition_point(|job| job.ended.is_some())
    }

    /// Ends all jobs: those that were executed are finished, the others failed. Then recovers the channel.
    fn end(&mut self, is_failure: bool) {
        self.follow();
        self.set(COMPLETED_COUNT, (self.executed - self.run_base) as u32);
        self.set(STATUS, if is_failure { Status::READ_ERROR_0.bits() } else { 0 });
        match is_failure {
            true => drop(self.channel.check().unwrap_err()),
            false => self.channel.stop().unwrap(),
        }
        for job in self.jobs.iter_mut().filter(|job| job.ended.is_none()) {
            job.ended = Some(if job.end <= self.executed { Poll::Ready } else { Poll::Pending });
        }
        assert_eq!(self.channel.in_flight(), 0);
        (0..self.jobs.len()).rev().take(300).for_each(|at| self.poll(at));
        self.set(STATUS, 0);
        self.channel.recover().unwrap();
        assert_eq!(self.channel.engine.slots.free(), self.channel.engine.slots.len());
        self.addresses.clear();
        (self.submitted, self.executed, self.reported, self.run_base) = (0, 0, 0, 0);
        self.word = 0;
        self.follow();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Transfer | Step::List(_) | Step::Program(_) => self.submit(step),
            Step::Execute(share, report) => self.execute(share, report),
            Step::Busy(busy) => self.set(STATUS, busy.into()),
            Step::Poll(back) => self.poll(self.jobs.len().saturating_sub(back + 1)),
            Step::PollOldest => self.poll(self.oldest()),
            Step::Fail => self.end(true),
            Step::Stop => self.end(false),
        }
        // A job has ended once a poll has seen that it is finished.
        let ended = self.jobs.len() - self.channel.in_flight();
        for job in self.jobs[..ended].iter_mut().filter(|job| job.ended.is_none()) {
            assert!(job.end <= self.reported, "no job ends before it is finished");
            job.ended = Some(Poll::Ready);
        }
    }
}

proptest! {
    #[test]
    fn every_answer_is_right(steps in steps(), ring in prop_oneof![Just(Ring::Chain), Just(Ring::Credits)], mapped: bool) {
        let mut rig = Rig::new(ring, mapped);
        steps.iter().for_each(|step| rig.step(step));
    }
}
