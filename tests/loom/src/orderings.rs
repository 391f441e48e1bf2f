//! The driver's orderings, and variants with one of them removed.

use crate::order;
use loom::sync::atomic::{AtomicU32, Ordering};

/// The orderings with which a model runs.
pub trait Orderings: 'static {
    type Count: Count;

    fn before_doorbell() {
        order::before_doorbell();
    }

    fn after_completion() {
        order::after_completion();
    }
}

/// A count of jobs in flight: [`order::InFlight`], or an incorrect variant.
pub trait Count: Default + Send + Sync {
    fn enter(&self);
    fn leave(&self);
    fn in_flight(&self) -> usize;
}

/// The driver's count, for a single job.
pub struct InFlight(order::InFlight<2>);

impl Default for InFlight {
    fn default() -> Self {
        Self(order::InFlight::new(5))
    }
}

impl Count for InFlight {
    fn enter(&self) {
        self.0.begin(5, 1);
    }

    fn leave(&self) {
        self.0.end_before(6);
    }

    fn in_flight(&self) -> usize {
        self.0.count(|program| program == 1)
    }
}

/// The driver's orderings.
pub struct DriverOrderings;

impl Orderings for DriverOrderings {
    type Count = InFlight;
}

/// The driver's count with a single slot, which the next job gets when the first has ended.
pub struct ReusedSlot(order::InFlight<1>);

impl Default for ReusedSlot {
    fn default() -> Self {
        Self(order::InFlight::new(5))
    }
}

impl Count for ReusedSlot {
    fn enter(&self) {
        self.0.begin(5, 1);
    }

    fn leave(&self) {
        self.0.end_before(6);
        self.0.begin(6, 2);
    }

    fn in_flight(&self) -> usize {
        self.0.count(|program| program == 1)
    }
}

impl Orderings for ReusedSlot {
    type Count = Self;
}

pub struct NoFenceBeforeDoorbell;

impl Orderings for NoFenceBeforeDoorbell {
    type Count = InFlight;

    fn before_doorbell() {}
}

pub struct NoFenceAfterCompletion;

impl Orderings for NoFenceAfterCompletion {
    type Count = InFlight;

    fn after_completion() {}
}

/// Decrements the count without Release.
#[derive(Default)]
pub struct RelaxedLeave(AtomicU32);

/// Reads the count with Relaxed instead of Acquire ordering.
#[derive(Default)]
pub struct RelaxedCount(AtomicU32);

macro_rules! count {
    ($name:ident, $leave:ident, $count:ident) => {
        impl Count for $name {
            fn enter(&self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }

            fn leave(&self) {
                self.0.fetch_sub(1, Ordering::$leave);
            }

            fn in_flight(&self) -> usize {
                self.0.load(Ordering::$count) as usize
            }
        }

        impl Orderings for $name {
            type Count = Self;
        }
    };
}

count!(RelaxedLeave, Relaxed, Acquire);
count!(RelaxedCount, Release, Relaxed);
