//! MSM jobs, two in flight, on a card with the design's model.

use crate::session::{End, Plan, Session, Unused};
use crate::tally::Tally;
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{CurveGroup, VariableBaseMSM};
use ark_ff::UniformRand;
use rand::RngExt;
use rand_08::SeedableRng;
use rand_08::rngs::StdRng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::msm::curve::arkworks as curve;
use xdma::msm::{Job, JobTicket, Msm, MsmError, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma_emulator::logic::{Msm as Model, MsmOptions as ModelOptions};
use xdma_emulator::{EmulatedCard, Options};

/// Pairs of the sums.
const SIZES: [usize; 4] = [1, 70, 300, 1500];
/// A completion that was lost is found by this.
const LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(60);

/// A sum and what it must be.
struct Sum {
    points: Vec<G1Affine>,
    scalars: Vec<Fr>,
    right: G1Affine,
}

impl Sum {
    fn new(pairs: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let points: Vec<_> = (0..pairs).map(|_| G1Projective::rand(&mut rng)).collect();
        let points = G1Projective::normalize_batch(&points);
        let scalars: Vec<_> = (0..pairs).map(|_| Fr::rand(&mut rng)).collect();
        let right = G1Projective::msm(&points, &scalars).expect("as many of each").into_affine();
        Self { points, scalars, right }
    }

    fn prepare(&self, card: &Card, msm: &mut Msm) -> Result<Job, MsmError> {
        let mut points = Points::allocate(card, self.points.len())?;
        points.fill(|bytes| curve::points_to_bytes(&self.points, bytes))??;
        let mut scalars = Scalars::allocate(card, self.scalars.len(), ScalarForm::Montgomery)?;
        scalars.fill(|bytes| curve::scalars_to_bytes(&self.scalars, bytes))??;
        msm.prepare(&points, &scalars)
    }
}

/// Works until told to stop.
pub fn start(seed: u64, tally: &Arc<Tally>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let sums: Vec<_> = (seed..).zip(SIZES).map(|(seed, pairs)| Sum::new(pairs, seed)).collect();
    let start = || {
        let logic = Arc::new(Model::new(ModelOptions::default()));
        EmulatedCard::start(Options::default(), logic).expect("a card starts anywhere")
    };
    let work = move |session: &Session<'_>, _, rng: &mut rand::rngs::StdRng| {
        while !session.is_over() {
            match work(session, &sums, rng) {
                Ok(()) => {}
                Err(_) if session.left() => return,
                Err(error) => return session.tally.unexplained(format!("the MSM client ends: {error}")),
            }
        }
    };
    Plan { name: "MSM", seed: seed + 1, pause: PAUSE, workers: 1, start, work }.spawn(tally, stop)
}

/// Works with a client until it ends, or is ended.
fn work(session: &Session<'_>, sums: &[Sum], rng: &mut rand::rngs::StdRng) -> Result<(), MsmError> {
    let tally = session.tally;
    // Registers may read all ones for some milliseconds.
    let mut msm = session.patiently(|| Msm::open(session.card, MsmOptions::default()))?;
    let jobs = sums.iter().map(|sum| sum.prepare(session.card, &mut msm)).collect::<Result<Vec<_>, _>>()?;
    let mut unused = Unused::default();
    unused.renew(session)?;
    let mut failed: Option<Instant> = None;
    let mut running = VecDeque::new();
    let mut next = (0..sums.len()).cycle();
    while !session.is_over() {
        let mut end = rng.random_bool(0.01);
        match step(&mut msm, &jobs, &mut running, &mut next) {
            Ok(Some((at, output))) => {
                if let Some(since) = failed.take() {
                    tally.recovery("MSM client recovered", since.elapsed());
                }
                match curve::result_to_point(&output.bytes) {
                    Ok(point) if point == sums[at].right => tally.job(96 * sums[at].points.len() as u64),
                    _ => tally.mismatch(format!("the sum of {} pairs", sums[at].points.len())),
                }
            }
            Ok(None) => {}
            Err(error) => {
                match kind(&error) {
                    "other" => tally.unexplained(format!("MSM: {error}")),
                    kind => tally.error(&format!("MSM: {kind}")),
                }
                failed.get_or_insert_with(Instant::now);
                running.clear();
                end |= rng.random_bool(0.3);
                if !end {
                    session.patiently(|| msm.recover())?;
                }
            }
        }
        if end {
            return end_client(session, msm, &jobs, unused, rng);
        }
    }
    Ok(())
}

/// Ends a client with a job in flight, mostly in the worst moment.
fn end_client(
    session: &Session<'_>,
    mut msm: Msm,
    jobs: &[Job],
    mut unused: Unused,
    rng: &mut rand::rngs::StdRng,
) -> Result<(), MsmError> {
    let (how, blind) = (session.choose_end(rng), rng.random_bool(0.5));
    if blind {
        session.hold_up(Direction::H2C, 0, rng);
    }
    // It fails if a fault came before.
    let _ = msm.submit(&jobs[rng.random_range(0..jobs.len())]);
    if blind {
        session.all_ones(rng);
    }
    // A client has no other end than to be dropped.
    let how = if how == End::Close { End::Drop } else { how };
    if !session.end(how, msm, |_| Ok(())) {
        while !session.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        return Ok(());
    }
    Ok(unused.renew(session)?)
}

/// Starts a job, or takes the result of the oldest of two.
fn step(
    msm: &mut Msm,
    jobs: &[Job],
    running: &mut VecDeque<(usize, JobTicket)>,
    next: &mut impl Iterator<Item = usize>,
) -> Result<Option<(usize, xdma::msm::Output)>, MsmError> {
    if running.len() < 2 {
        let at = next.next().expect("it goes round");
        running.push_back((at, msm.submit(&jobs[at])?));
        return Ok(None);
    }
    let Some((at, ticket)) = running.pop_front() else { return Ok(None) };
    Ok(Some((at, msm.wait(ticket, LIMIT)?)))
}

fn kind(error: &MsmError) -> &'static str {
    match error {
        MsmError::Engine(error) => crate::tally::known(error).unwrap_or("other"),
        MsmError::Interrupted { cause, .. } => kind(cause),
        MsmError::Deadline { .. } => "Deadline",
        MsmError::Gone => "Gone",
        MsmError::WrongLabel { .. } => "WrongLabel",
        MsmError::Design(_) => "Design",
        _ => "other",
    }
}
