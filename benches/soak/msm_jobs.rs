//! MSM jobs, two in flight at a time, on a card with the model of the MSM design.

use crate::session::{Canaries, Disposal, Session, Workload};
use crate::tally::Tally;
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{CurveGroup, VariableBaseMSM};
use ark_ff::UniformRand;
use rand::RngExt;
use rand_08::SeedableRng;
use rand_08::rngs::StdRng;
use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::msm::curve::arkworks as curve;
use xdma::msm::{Job, JobTicket, Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma_emulator::logic::{MsmModel as Model, MsmModelOptions as ModelOptions};
use xdma_emulator::{EmulatedCard, EmulatorOptions};

/// Number of pairs of each MSM.
const SIZES: [usize; 4] = [1, 70, 300, 1500];
/// Time limit of a job. A lost completion is found at this limit.
const LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(60);

/// The input of an MSM, and its expected result.
struct MsmCase {
    points: Vec<G1Affine>,
    scalars: Vec<Fr>,
    expected: G1Affine,
}

impl MsmCase {
    fn new(pairs: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let points: Vec<_> = (0..pairs).map(|_| G1Projective::rand(&mut rng)).collect();
        let points = G1Projective::normalize_batch(&points);
        let scalars: Vec<_> = (0..pairs).map(|_| Fr::rand(&mut rng)).collect();
        let expected =
            G1Projective::msm(&points, &scalars).expect("equal numbers of points and scalars").into_affine();
        Self { points, scalars, expected }
    }

    fn prepare(&self, card: &Card, msm: &mut Msm) -> Result<Job, Box<dyn Error>> {
        let mut points = Points::allocate(card, self.points.len())?;
        points.fill(|bytes| curve::points_to_bytes(&self.points, bytes))??;
        let mut scalars = Scalars::allocate(card, self.scalars.len(), ScalarForm::Montgomery)?;
        scalars.fill(|bytes| curve::scalars_to_bytes(&self.scalars, bytes))??;
        Ok(msm.prepare(&points, &scalars)?)
    }
}

/// Runs until `stop` is set.
pub fn start(seed: u64, tally: &Arc<Tally>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let cases: Vec<_> = (seed..).zip(SIZES).map(|(seed, pairs)| MsmCase::new(pairs, seed)).collect();
    let start = || {
        let logic = Arc::new(Model::new(ModelOptions::default()));
        EmulatedCard::start(EmulatorOptions::default(), logic).expect("an emulated card can be started")
    };
    let work = move |session: &Session<'_>, _, rng: &mut rand::rngs::StdRng| {
        while !session.is_over() {
            match run_with_client(session, &cases, rng) {
                Ok(()) => {}
                Err(_) if session.ends_soon() => return,
                Err(error) => return session.tally.unexplained(format!("the MSM client failed: {error}")),
            }
        }
    };
    Workload { name: "MSM", seed: seed + 1, pause: PAUSE, workers: 1, start, work }.spawn(tally, stop)
}

/// Uses one client until it is ended or the session is over.
fn run_with_client(
    session: &Session<'_>,
    cases: &[MsmCase],
    rng: &mut rand::rngs::StdRng,
) -> Result<(), Box<dyn Error>> {
    let tally = session.tally;
    // The registers may read all ones for a few milliseconds.
    let mut msm = session.retry(|| Msm::open(session.card, MsmOptions::default()))?;
    let jobs =
        cases.iter().map(|case| case.prepare(session.card, &mut msm)).collect::<Result<Vec<_>, _>>()?;
    let mut canaries = Canaries::default();
    canaries.renew(session)?;
    let mut failed: Option<Instant> = None;
    let mut running = VecDeque::new();
    let mut next = (0..cases.len()).cycle();
    while !session.is_over() {
        let mut end = rng.random_bool(0.01);
        match step(&mut msm, &jobs, &mut running, &mut next) {
            Ok(Some((at, output))) => {
                if let Some(since) = failed.take() {
                    tally.recovery("MSM client recovered", since.elapsed());
                }
                match curve::result_to_point(&output.bytes) {
                    Ok(point) if point == cases[at].expected => tally.job(96 * cases[at].points.len() as u64),
                    _ => tally.mismatch(format!("the MSM of {} pairs", cases[at].points.len())),
                }
            }
            Ok(None) => {}
            Err(error) => {
                tally.error("MSM: ", &*error);
                failed.get_or_insert_with(Instant::now);
                running.clear();
                end |= rng.random_bool(0.3);
                if !end {
                    session.retry(|| msm.recover())?;
                }
            }
        }
        if end {
            return end_client(session, msm, &jobs, canaries, rng);
        }
    }
    Ok(())
}

/// Ends a client with a job in flight, in half of the cases under faults.
fn end_client(
    session: &Session<'_>,
    mut msm: Msm,
    jobs: &[Job],
    mut canaries: Canaries,
    rng: &mut rand::rngs::StdRng,
) -> Result<(), Box<dyn Error>> {
    let (how, gone) = (session.choose_disposal(rng), rng.random_bool(0.5));
    if gone {
        session.stall(Direction::H2C, 0, rng);
    }
    // Submitting fails if a fault was injected before.
    let _ = msm.submit(&jobs[rng.random_range(0..jobs.len())]);
    if gone {
        session.all_ones(rng);
    }
    // A client has no method to close it.
    let how = if how == Disposal::Close { Disposal::Drop } else { how };
    if !session.end(how, msm, |_| Ok(())) {
        while !session.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        return Ok(());
    }
    Ok(canaries.renew(session)?)
}

/// Submits a job, or, if two jobs are in flight, waits for the older one and returns its result.
fn step(
    msm: &mut Msm,
    jobs: &[Job],
    running: &mut VecDeque<(usize, JobTicket)>,
    next: &mut impl Iterator<Item = usize>,
) -> Result<Option<(usize, xdma::msm::Output)>, Box<dyn Error>> {
    if running.len() < 2 {
        let at = next.next().expect("the iterator is endless");
        running.push_back((at, msm.submit(&jobs[at])?));
        return Ok(None);
    }
    let Some((at, ticket)) = running.pop_front() else { return Ok(None) };
    Ok(Some((at, msm.wait(ticket, LIMIT)?)))
}
