//! MSM jobs that fail within their data: the error states how much was consumed, and the next job is correct.

use crate::rig::LIMIT;
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{CurveGroup, VariableBaseMSM};
use ark_ff::UniformRand;
use rand_08::{SeedableRng, rngs::StdRng};
use std::sync::Arc;
use std::time::Duration;
use xdma::card::{Card, CardOptions};
use xdma::msm::curve::arkworks as ark;
use xdma::msm::{Job, JobError, Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma_emulator::faults::Kind;
use xdma_emulator::logic::{MsmModel as Model, MsmModelOptions as ModelOptions};
use xdma_emulator::{EmulatedCard, EmulatorOptions};

const PAIRS: usize = 256;
const CHUNK: u32 = 16;

struct MsmRig {
    emulated: EmulatedCard,
    card: Card,
    msm: Msm,
    job: Job,
    expected: G1Affine,
}

/// Returns a card with small FIFOs, and a job with chunks of half their depth. A chunk is two bursts: 512 bytes of scalars and 1024
/// bytes of points.
fn rig(watchdog: u32) -> MsmRig {
    let model = ModelOptions { scalar_depth: 32, point_depth: 32, watchdog, ..ModelOptions::default() };
    let emulated = EmulatedCard::start(EmulatorOptions::default(), Arc::new(Model::new(model))).unwrap();
    let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
    let msm = Msm::open(&card, MsmOptions { chunk: Some(CHUNK), ..MsmOptions::default() }).unwrap();
    let mut rng = StdRng::seed_from_u64(5);
    let points: Vec<_> = (0..PAIRS).map(|_| G1Projective::rand(&mut rng).into_affine()).collect();
    let scalars: Vec<_> = (0..PAIRS).map(|_| Fr::rand(&mut rng)).collect();
    let mut p = Points::allocate(&card, PAIRS).unwrap();
    p.fill(|bytes| ark::points_to_bytes(&points, bytes)).unwrap().unwrap();
    let mut s = Scalars::allocate(&card, PAIRS, ScalarForm::Montgomery).unwrap();
    s.fill(|bytes| ark::scalars_to_bytes(&scalars, bytes)).unwrap().unwrap();
    let job = msm.prepare(&p, &s).unwrap();
    let expected = G1Projective::msm(&points, &scalars).unwrap().into_affine();
    MsmRig { emulated, card, msm, job, expected }
}

impl MsmRig {
    fn fails(&mut self, limit: Duration) -> JobError {
        let ticket = self.msm.submit(&self.job).unwrap();
        self.msm.wait(ticket, limit).unwrap_err()
    }

    /// Makes the points of the first two chunks get lost after they were acknowledged. The scalars of the third chunk then find
    /// their FIFO full.
    fn lose_points(&self) {
        for burst in [1, 3] {
            self.emulated.inject(Kind::AxiWriteLost.on(Direction::H2C, 0).after(burst)).unwrap();
        }
    }

    #[track_caller]
    fn works(&mut self) {
        for _ in 0..2 {
            let ticket = self.msm.submit(&self.job).unwrap();
            let output = self.msm.wait(ticket, LIMIT).unwrap();
            assert_eq!(ark::result_to_point(&output.bytes).unwrap(), self.expected);
        }
    }

    fn end(self) {
        drop((self.msm, self.job, self.card));
        assert!(self.emulated.violations().is_empty(), "{:?}", self.emulated.violations());
    }
}

/// Returns the text of the error, and the number of pairs that were consumed.
#[track_caller]
fn interrupted(error: JobError) -> (String, u32) {
    match error {
        JobError::Interrupted { pairs, taken, chunks, .. } => {
            assert_eq!((pairs as usize, chunks), (PAIRS, taken / CHUNK));
            (error.to_string(), taken)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_job_whose_axi_transfer_is_refused() {
    let mut rig = rig(1 << 26);
    rig.works();
    for fault in [Kind::AxiSlaveError, Kind::AxiDecodeError] {
        // After four chunks of scalars and four of points.
        rig.emulated.inject(fault.on(Direction::H2C, 0).after(8)).unwrap();
        let (text, taken) = interrupted(rig.fails(LIMIT));
        assert!(taken > 0 && (taken as usize) < PAIRS, "{text}");
        assert!(text.contains("AXI"), "{text}");
        rig.works();
    }
    rig.end();
}

#[test]
fn a_job_queued_behind_a_failed_one_is_lost() {
    let mut rig = rig(1 << 26);
    rig.emulated.inject(Kind::AxiSlaveError.on(Direction::H2C, 0).after(8)).unwrap();
    let (first, second) = (rig.msm.submit(&rig.job).unwrap(), rig.msm.submit(&rig.job).unwrap());
    interrupted(rig.msm.wait(first, LIMIT).unwrap_err());
    for ticket in [first, second] {
        assert!(matches!(rig.msm.poll(ticket), Err(JobError::Lost)));
    }
    rig.works();
    rig.end();
}

/// Scalars fill their FIFO and wait forever.
#[test]
fn a_job_that_deadlocks() {
    let mut rig = rig(1 << 31);
    rig.works();
    rig.lose_points();
    let error = rig.fails(Duration::from_millis(300));
    match &error {
        JobError::Deadline { state, .. } => assert!(state.is_deadlock(), "{error}"),
        other => panic!("{other}"),
    }
    rig.msm.recover().unwrap();
    rig.works();
    rig.end();
}

/// The design's watchdog ends the job. The design then drops all data until the client flushes it.
#[test]
fn a_job_that_the_watchdog_ends() {
    let mut rig = rig(1 << 16);
    rig.lose_points();
    let (text, taken) = interrupted(rig.fails(LIMIT));
    assert!((taken as usize) < PAIRS && text.contains("WATCHDOG"), "{text}");
    rig.works();
    rig.end();
}

#[test]
fn a_job_whose_link_goes_down() {
    let mut rig = rig(1 << 26);
    rig.works();
    rig.emulated
        .inject(Kind::AxiHang(xdma_emulator::faults::FaultDuration::Forever).on(Direction::H2C, 0).after(8))
        .unwrap();
    let ticket = rig.msm.submit(&rig.job).unwrap();
    let short = Duration::from_millis(100);
    assert!(matches!(rig.msm.wait(ticket, short), Err(JobError::Deadline { .. })));
    rig.emulated.inject(Kind::LinkDown).unwrap();
    assert!(rig.msm.wait(ticket, LIMIT).is_err());
    rig.emulated.inject(Kind::LinkUp).unwrap();
    rig.card.recover().unwrap();
    rig.msm.recover().unwrap();
    assert!(matches!(rig.msm.poll(ticket), Err(JobError::Lost)));
    rig.works();
    rig.end();
}
