//! MSM jobs, two in flight, on a card with the design's model.

use crate::faults::{Reach, Trouble};
use crate::moving::{left, open, patiently};
use crate::tally::Tally;
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{CurveGroup, VariableBaseMSM};
use ark_ff::UniformRand;
use rand_08::SeedableRng;
use rand_08::rngs::StdRng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::emulator::faults::Kind;
use xdma::emulator::logic::{Msm as Model, MsmOptions as ModelOptions};
use xdma::emulator::{EmulatedCard, Options};
use xdma::msm::curve::arkworks as curve;
use xdma::msm::{Job, JobTicket, Msm, MsmError, MsmOptions, Points, ScalarForm, Scalars};

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
    let (tally, stop) = (tally.clone(), stop.clone());
    thread::spawn(move || {
        let sums: Vec<_> = (seed..).zip(SIZES).map(|(seed, pairs)| Sum::new(pairs, seed)).collect();
        let logic = Arc::new(Model::new(ModelOptions::default()));
        let emulated = EmulatedCard::start(Options::default(), logic).expect("a card starts anywhere");
        let mut trouble = Trouble::new(seed + 1, PAUSE);
        let mut lost: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            let card = match open(&emulated) {
                Ok(card) => card,
                Err(error) => return tally.unexplained(format!("the MSM card does not open: {error}")),
            };
            if let Some(since) = lost.take() {
                tally.recovery("MSM card opened again", since.elapsed());
            }
            let leave = AtomicBool::new(false);
            thread::scope(|scope| {
                let (sums, tally, leave, its) = (&sums, &*tally, &leave, card.clone());
                scope.spawn(move || {
                    if let Err(error) = work(&its, sums, tally, leave)
                        && !left(leave)
                    {
                        tally.unexplained(format!("the MSM client ends: {error}"));
                    }
                });
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                    if trouble.strike(&emulated, tally) == Some(Reach::Card) {
                        lost = Some(Instant::now());
                        break;
                    }
                }
                leave.store(true, Ordering::Relaxed);
            });
            drop(card);
            emulated.inject(Kind::LinkUp).expect("there is a link");
        }
        tally.violations(emulated.violations().iter().map(ToString::to_string));
    })
}

fn work(card: &Card, sums: &[Sum], tally: &Tally, leave: &AtomicBool) -> Result<(), MsmError> {
    // Registers may read all ones for some milliseconds.
    let mut opened = None;
    patiently(leave, || Msm::open(card, MsmOptions::default()).map(|msm| opened = Some(msm)))?;
    let Some(mut msm) = opened else { return Ok(()) };
    let jobs = sums.iter().map(|sum| sum.prepare(card, &mut msm)).collect::<Result<Vec<_>, _>>()?;
    let mut failed: Option<Instant> = None;
    let mut running = VecDeque::new();
    let mut next = (0..sums.len()).cycle();
    while !leave.load(Ordering::Relaxed) {
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
                tally.error(&format!("MSM: {}", kind(&error)));
                failed.get_or_insert_with(Instant::now);
                running.clear();
                patiently(leave, || msm.recover())?;
            }
        }
    }
    Ok(())
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
        MsmError::Engine(error) => crate::moving::kind(error),
        MsmError::Interrupted { cause, .. } => kind(cause),
        MsmError::Deadline { .. } => "Deadline",
        MsmError::Gone => "Gone",
        MsmError::WrongLabel { .. } => "WrongLabel",
        MsmError::Design(_) => "Design",
        _ => "other",
    }
}
