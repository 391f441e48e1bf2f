//! The driver's orderings, and each of them with one left out.

use crate::order;
use loom::sync::atomic::{AtomicU32, Ordering};

/// What the models are run with.
pub trait Rules: 'static {
    type Count: Count;

    fn before_doorbell() {
        order::before_doorbell();
    }

    fn after_completion() {
        order::after_completion();
    }
}

/// [`order::InFlight`], or what it must not be.
pub trait Count: Default + Send + Sync {
    fn enter(&self);
    fn leave(&self);
    fn count(&self) -> usize;
}

/// The driver's own, with a job that is in flight or not.
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

    fn count(&self) -> usize {
        self.0.count(|what| what == 1)
    }
}

/// The driver's own.
pub struct Real;

impl Rules for Real {
    type Count = InFlight;
}

pub struct NothingBeforeDoorbell;

impl Rules for NothingBeforeDoorbell {
    type Count = InFlight;

    fn before_doorbell() {}
}

pub struct NothingAfterCompletion;

impl Rules for NothingAfterCompletion {
    type Count = InFlight;

    fn after_completion() {}
}

/// Leaves without Release.
#[derive(Default)]
pub struct LooseLeave(AtomicU32);

/// Asks without Acquire.
#[derive(Default)]
pub struct LooseCount(AtomicU32);

macro_rules! count {
    ($name:ident, $leave:ident, $count:ident) => {
        impl Count for $name {
            fn enter(&self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }

            fn leave(&self) {
                self.0.fetch_sub(1, Ordering::$leave);
            }

            fn count(&self) -> usize {
                self.0.load(Ordering::$count) as usize
            }
        }

        impl Rules for $name {
            type Count = Self;
        }
    };
}

count!(LooseLeave, Relaxed, Acquire);
count!(LooseCount, Release, Relaxed);
