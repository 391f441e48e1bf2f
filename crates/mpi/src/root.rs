//! The rank that computes sums with the cards of all ranks.

use crate::failure::Failure;
use crate::message::{Order, Record};
use crate::options::Options;
use crate::report::{PartReport, RankReport, SumReport};
use crate::shares::{shares, weights};
use crate::wire::{
    WirePoint, WireScalar, WireSum, point_to_wire, scalar_to_wire, sum_from_wire, sum_to_wire,
};
use crate::worker::{CHUNK, compute_part, digest, register};
use crate::world::World;
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::CurveGroup;
use mpi::datatype::Partition;
use mpi::traits::{Communicator, Root as _};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma_cards::{Bases, Cards, RegisterError, Scalars, SumError};

/// The root of a job, whose cards are not yet open.
pub struct Root<'a> {
    world: Option<&'a World>,
    options: Options,
}

/// The cards of all ranks, used as one engine for sums.
pub struct Ranks<'a> {
    world: Option<&'a World>,
    options: Options,
    cards: Arc<Cards>,
    /// Speed and number of cards of each rank, after the latest sum.
    ranks: Vec<(Option<f64>, usize)>,
    registered: usize,
}

/// Points that were copied to the cards of all ranks. The copies are kept until the job ends.
pub struct RootBases {
    index: usize,
    bases: Bases,
}

/// Why the root could not register points or compute a sum.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The numbers of points and scalars differ.
    #[error("{points} points and {scalars} scalars do not form pairs; pass as many scalars as points")]
    Counts {
        /// Number of points.
        points: usize,
        /// Number of scalars.
        scalars: usize,
    },
    /// There are too many elements for one message.
    #[error("{count} elements are too many for MPI, at most 2^31 - 1; divide the sum")]
    TooMany {
        /// Number of elements.
        count: usize,
    },
    /// The root's cards could not register points.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The root's cards could not compute the root's part.
    #[error(transparent)]
    Sum(#[from] SumError),
    /// The reduction returned something that is not a point.
    #[error(
        "the reduction did not return a point on the curve, so a rank's partial sum was corrupted; check the hosts' memory and network"
    )]
    NotAPoint,
}

impl<'a> Root<'a> {
    pub(crate) fn new(world: Option<&'a World>, options: Options) -> Self {
        Self { world, options }
    }

    /// Returns the number of ranks.
    pub fn size(&self) -> usize {
        self.world.map_or(1, World::size)
    }

    /// Uses these cards for the root's part of each sum. Waits until the workers have opened their cards.
    pub fn open(self, cards: Arc<Cards>) -> Ranks<'a> {
        let Self { world, options } = self;
        let mut ranks = vec![(None, cards.in_service())];
        if let Some(world) = world {
            let serving = |_, record| match record {
                Record::Serving { cards } => Some((None, cards)),
                _ => None,
            };
            ranks.extend(world.collect("the workers to open their cards", options.load_deadline, serving));
        }
        Ranks { world, options, cards, ranks, registered: 0 }
    }
}

impl Ranks<'_> {
    /// Returns the number of ranks.
    pub fn size(&self) -> usize {
        self.ranks.len()
    }

    /// Sends points to all ranks, 64 bytes each, and registers them with all cards. Checks on all ranks that the points arrived
    /// unchanged.
    ///
    /// # Errors
    ///
    /// Returns a [`RootError`] if there are too many points, or if the cards of a single rank fail. With several ranks, a
    /// failure of cards ends the job.
    pub fn register(&mut self, points: impl Into<Arc<[G1Affine]>>) -> Result<RootBases, RootError> {
        self.register_points(points.into(), true)
    }

    /// Registers points of which each worker passes its own copy to [`Worker::serve`](crate::Worker::serve), for example from a
    /// key file on each host. Only a digest is sent. If a rank has different points, the job ends and the error names the rank.
    ///
    /// # Errors
    ///
    /// The same as for [`register`](Self::register).
    pub fn register_own(&mut self, points: impl Into<Arc<[G1Affine]>>) -> Result<RootBases, RootError> {
        self.register_points(points.into(), false)
    }

    fn register_points(&mut self, points: Arc<[G1Affine]>, broadcast: bool) -> Result<RootBases, RootError> {
        let count = points.len();
        check_count(count)?;
        let bases = match self.world {
            None => self.cards.register(points)?,
            Some(world) => {
                world.workers().for_each(|rank| world.order(rank, &Order::Bases { count, broadcast }));
                if broadcast {
                    send_points(world, &points);
                }
                compare_digests(world, &digest(&points));
                let bases = register(world, &self.cards, points)
                    .unwrap_or_else(|error| world.fail(error.to_string()));
                let registered = |_, record| matches!(record, Record::Registered).then_some(());
                world.collect("the workers' cards to get the bases", self.options.load_deadline, registered);
                bases
            }
        };
        self.registered += 1;
        Ok(RootBases { index: self.registered - 1, bases })
    }

    /// Computes a sum with the cards of all ranks. Each rank gets only its own scalars, 32 bytes each, and returns a point of
    /// 96 bytes. The sizes of the parts are in proportion to the measured speed of the ranks' cards.
    ///
    /// # Errors
    ///
    /// Returns a [`RootError`] if the numbers of points and scalars differ or are too large, if the job has a single rank and
    /// its cards fail, or if the result of the reduction was corrupted. With several ranks, a failure of cards ends the job. A
    /// partial sum is never returned.
    pub fn sum(&mut self, bases: &RootBases, scalars: &[Fr]) -> Result<(G1Projective, SumReport), RootError> {
        if bases.bases.len() != scalars.len() {
            return Err(RootError::Counts { points: bases.bases.len(), scalars: scalars.len() });
        }
        check_count(scalars.len())?;
        let parts = shares(scalars.len(), &weights(&self.ranks));
        let begin = Instant::now();
        if let Some(world) = self.world {
            self.scatter(world, bases, scalars, &parts);
        }
        let scattered = begin.elapsed();
        let own = Scalars::from_fr(scalars[..parts[0]].to_vec());
        let limit = self.options.deadline;
        let (mut sum, report) =
            match (compute_part(self.world, limit, &self.cards, &bases.bases, 0, &own), self.world) {
                (Ok(part), _) => part,
                // The workers already wait for the reduction, so the job cannot go on without the root's part.
                (Err(error), Some(world)) => world.fail(error.to_string()),
                (Err(error), None) => return Err(error.into()),
            };
        let mut reports = vec![report];
        if let Some(world) = self.world {
            let part = |_, record| match record {
                Record::Part(report) => Some(report),
                _ => None,
            };
            let left = limit.saturating_sub(begin.elapsed().saturating_sub(scattered));
            reports.extend(world.collect("the parts of the sum", left, part));
        }
        let computed = begin.elapsed();
        if let Some(world) = self.world {
            sum = reduce(world, limit, &sum).ok_or(RootError::NotAPoint)?;
        }
        self.ranks = reports.iter().map(|part| (part.speed, part.cards_in_service)).collect();
        Ok((sum, self.report(reports, [scattered, computed, begin.elapsed()])))
    }

    /// Sends each rank its part of the scalars.
    fn scatter(&self, world: &World, bases: &RootBases, scalars: &[Fr], parts: &[usize]) {
        let first = |rank: usize| parts[..rank].iter().sum::<usize>();
        for rank in world.workers() {
            let order = Order::Sum { bases: bases.index, first: first(rank), count: parts[rank] };
            world.order(rank, &order);
        }
        // The root keeps its own part, so it is not sent.
        let wire: Vec<WireScalar> = scalars[parts[0]..].iter().map(scalar_to_wire).collect();
        let mut counts: Vec<i32> = parts.iter().map(|part| *part as i32).collect();
        counts[0] = 0;
        let starts: Vec<i32> =
            (0..parts.len()).map(|rank| first(rank).saturating_sub(parts[0]) as i32).collect();
        let partition = Partition::new(&wire[..], counts, starts);
        let (partition, mut own) = (&partition, [WireScalar::ZERO; 0]);
        let own = &mut own[..];
        let root = world.communicator.process_at_rank(0);
        world.complete("the scalars", self.options.deadline, |scope| {
            root.immediate_scatter_varcount_into_root(scope, partition, own)
        });
    }

    fn report(&self, parts: Vec<PartReport>, [scattered, computed, reduced]: [Duration; 3]) -> SumReport {
        let host =
            |rank| self.world.and_then(|world| world.place(rank).host).unwrap_or_else(|| "this host".into());
        let rank = |(rank, part): (usize, PartReport)| RankReport {
            rank,
            host: host(rank),
            scalar_bytes: if rank == 0 { 0 } else { part.pairs * WireScalar::BYTES },
            result_bytes: if rank == 0 { 0 } else { WireSum::BYTES },
            part,
        };
        SumReport {
            pairs: parts.iter().map(|part| part.pairs).sum(),
            ranks: parts.into_iter().enumerate().map(rank).collect(),
            scatter_seconds: scattered.as_secs_f64(),
            compute_seconds: (computed - scattered).as_secs_f64(),
            reduce_seconds: (reduced - computed).as_secs_f64(),
        }
    }
}

impl RootBases {
    /// Returns the number of points.
    pub fn len(&self) -> usize {
        self.bases.len()
    }

    /// Returns whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of bytes of points that each worker received: 64 for each point that was sent.
    pub fn bytes(&self) -> usize {
        self.len() * WirePoint::BYTES
    }
}

/// MPI counts elements with C's `int`.
fn check_count(count: usize) -> Result<(), RootError> {
    i32::try_from(count).map(drop).map_err(|_| RootError::TooMany { count })
}

fn send_points(world: &World, points: &[G1Affine]) {
    let root = world.communicator.process_at_rank(0);
    for chunk in points.chunks(CHUNK) {
        let mut wire: Vec<WirePoint> = chunk.iter().map(point_to_wire).collect();
        let wire = &mut wire[..];
        let limit = world.options.load_deadline;
        world.complete("the bases", limit, |scope| root.immediate_broadcast_into(scope, wire));
    }
}

/// Ends the job if a rank has different points.
fn compare_digests(world: &World, own: &str) {
    let differs = |rank, record| match record {
        Record::Digest(digest) => Some((rank, digest != own)),
        _ => None,
    };
    let compared = world.collect("the digests of the bases", world.options.load_deadline, differs);
    let places: Vec<_> =
        compared.into_iter().filter(|(_, differs)| *differs).map(|(rank, _)| world.place(rank)).collect();
    if !places.is_empty() {
        world.abort(&Failure::DifferentBases { places });
    }
}

/// Adds the parts of all ranks. Returns `None` if the result is not a point.
fn reduce(world: &World, limit: Duration, part: &G1Projective) -> Option<G1Projective> {
    let (part, mut sum) = (sum_to_wire(part), WireSum::ZERO);
    let root = world.communicator.process_at_rank(0);
    let (part, to) = (&part, &mut sum);
    world.complete("the reduction", limit, |scope| {
        root.immediate_reduce_into_root(scope, part, to, world.addition())
    });
    sum_from_wire(&sum).filter(|sum| sum.into_affine().is_on_curve())
}
