//! A rank that computes parts of the root's sums.

use crate::message::{Order, Record};
use crate::report::{CardPart, FailedPart, PartReport};
use crate::session::BoxedError;
use crate::wire::{WirePoint, WireScalar, WireSum, point_from_wire, scalar_from_wire, sum_to_wire};
use crate::world::World;
use ark_bn254::{Fr, G1Affine, G1Projective};
use mpi::traits::{Communicator, Root as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use xdma_cards::{Bases, Cards, RegisterError, Scalars, Sum, SumError};

/// Points in one message of the broadcast of bases: 4 MiB.
pub(crate) const CHUNK: usize = 1 << 16;

/// A rank other than the root.
pub struct Worker<'a> {
    world: &'a World,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world }
    }

    /// Returns the rank.
    pub fn rank(&self) -> usize {
        self.world.rank()
    }

    /// Returns the number of ranks.
    pub fn size(&self) -> usize {
        self.world.size()
    }

    /// Computes parts of sums with these cards until the root's program has returned. `own_bases` are this rank's copies of the
    /// points that the root registers with [`Ranks::register_own`](crate::Ranks::register_own), in the same order.
    ///
    /// If a card fails and no other card of this rank can compute its part, this function does not return. It reports the cause
    /// to the root, which ends the job.
    pub fn serve(self, cards: &Cards, own_bases: impl IntoIterator<Item = Arc<[G1Affine]>>) {
        // The error is reported before the caller closes the cards, because closing cards that hang takes time.
        self.execute_orders(cards, own_bases.into_iter())
            .unwrap_or_else(|error| self.world.fail(error.to_string()));
    }

    fn execute_orders(
        &self,
        cards: &Cards,
        mut own_bases: impl Iterator<Item = Arc<[G1Affine]>>,
    ) -> Result<(), BoxedError> {
        let mut bases: Vec<Bases> = vec![];
        self.world.record(&Record::Serving { cards: cards.in_service() });
        loop {
            match self.world.next_order(self.world.options.idle_limit) {
                Order::Bases { count, broadcast } => {
                    let points = match broadcast {
                        true => self.receive_points(count)?,
                        false => own_bases
                            .next()
                            .ok_or("the root registers bases of which this rank has no copy")?,
                    };
                    self.world.record(&Record::Digest(digest(&points)));
                    bases.push(register(self.world, cards, points)?);
                    self.world.record(&Record::Registered);
                }
                Order::Sum { bases: index, first, count } => {
                    let bases = bases.get(index).ok_or("the root names bases that it did not distribute")?;
                    self.compute(cards, bases, first, count)?;
                }
                Order::Done | Order::Release => {
                    self.world.set_done();
                    return Ok(());
                }
            }
        }
    }

    fn receive_points(&self, count: usize) -> Result<Arc<[G1Affine]>, BoxedError> {
        let limit = self.world.options.load_deadline;
        let (mut points, mut chunk) = (Vec::with_capacity(count), vec![WirePoint::ZERO; CHUNK.min(count)]);
        let root = self.world.communicator.process_at_rank(0);
        while points.len() < count {
            let length = CHUNK.min(count - points.len());
            let chunk = &mut chunk[..length];
            self.world.complete("the bases", limit, |scope| root.immediate_broadcast_into(scope, chunk));
            for wire in &chunk[..] {
                points
                    .push(point_from_wire(wire).ok_or("received a point whose coordinates are not reduced")?);
            }
        }
        Ok(points.into())
    }

    fn compute(&self, cards: &Cards, bases: &Bases, first: usize, count: usize) -> Result<(), BoxedError> {
        let (world, limit) = (self.world, self.world.options.deadline);
        let root = world.communicator.process_at_rank(0);
        let mut wire = vec![WireScalar::ZERO; count];
        let scalars = &mut wire[..];
        world.complete("the scalars", limit, |scope| root.immediate_scatter_varcount_into(scope, scalars));
        let scalars: Option<Vec<Fr>> = wire.iter().map(scalar_from_wire).collect();
        let scalars = Scalars::from_fr(scalars.ok_or("received a scalar that is not below the group order")?);
        let (sum, report) = compute_part(Some(world), limit, cards, bases, first, &scalars)?;
        world.record(&Record::Part(report));
        let part: WireSum = sum_to_wire(&sum);
        world.complete("the reduction", limit, |scope| {
            root.immediate_reduce_into(scope, &part, world.addition())
        });
        Ok(())
    }
}

/// Registers points with a rank's cards. The main thread answers the root meanwhile.
pub(crate) fn register(
    world: &World,
    cards: &Cards,
    points: Arc<[G1Affine]>,
) -> Result<Bases, RegisterError> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| cards.register(points));
        let limit = world.options.load_deadline;
        world.wait_for_own("its cards to get the bases", limit, || thread.is_finished().then_some(()));
        // A panic on any thread has ended the job.
        thread.join().unwrap_or(Err(RegisterError::Closed))
    })
}

/// Computes a rank's part of a sum. The main thread answers the root meanwhile.
pub(crate) fn compute_part(
    world: Option<&World>,
    limit: Duration,
    cards: &Cards,
    bases: &Bases,
    first: usize,
    scalars: &Scalars,
) -> Result<(G1Projective, PartReport), SumError> {
    let begin = Instant::now();
    let mut pending = cards.submit(bases, first, scalars, 0..scalars.len())?;
    let sum = match world {
        None => pending.wait(limit)?,
        Some(world) => {
            let is_over = || pending.is_finished() || begin.elapsed() >= limit;
            world.wait_for_own("its cards to compute", limit, || is_over().then_some(()));
            pending.wait(Duration::ZERO).map_err(|error| match error {
                SumError::Deadline { pairs, state, .. } => SumError::Deadline { pairs, waited: limit, state },
                error => error,
            })?
        }
    };
    let report = report(&sum, cards, scalars.len(), begin.elapsed());
    Ok((sum.point, report))
}

fn report(sum: &Sum, cards: &Cards, pairs: usize, time: Duration) -> PartReport {
    let in_service: Vec<_> = cards.status().into_iter().filter(|card| card.is_in_service()).collect();
    let part = |part: &xdma_cards::PartReport| CardPart {
        card: part.card.to_string(),
        pairs: part.pairs.len(),
        seconds: part.time.as_secs_f64(),
    };
    let failure = |failure: &xdma_cards::CardFailure| FailedPart {
        card: failure.card.to_string(),
        pairs: failure.pairs,
        cause: failure.error.to_string(),
    };
    PartReport {
        pairs,
        seconds: time.as_secs_f64(),
        cards: sum.parts.iter().map(part).collect(),
        failures: sum.failures.iter().map(failure).collect(),
        cards_in_service: in_service.len(),
        speed: in_service.iter().map(|card| card.speed).sum(),
    }
}

/// Returns a digest of points, which also depends on their number and order.
pub(crate) fn digest(points: &[G1Affine]) -> String {
    let mut hasher = blake3::Hasher::new();
    for point in points {
        let mut bytes = [0; WirePoint::BYTES];
        for (word, bytes) in crate::wire::point_to_wire(point).0.iter().zip(bytes.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}
