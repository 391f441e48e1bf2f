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
    fn count(&self) -> u32;
}

impl Count for order::InFlight {
    fn enter(&self) {
        self.enter();
    }

    fn leave(&self) {
        self.leave();
    }

    fn count(&self) -> u32 {
        self.count()
    }
}

/// The driver's own.
pub struct Real;

impl Rules for Real {
    type Count = order::InFlight;
}

pub struct NothingBeforeDoorbell;

impl Rules for NothingBeforeDoorbell {
    type Count = order::InFlight;

    fn before_doorbell() {}
}

pub struct NothingAfterCompletion;

impl Rules for NothingAfterCompletion {
    type Count = order::InFlight;

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

            fn count(&self) -> u32 {
                self.0.load(Ordering::$count)
            }
        }

        impl Rules for $name {
            type Count = Self;
        }
    };
}

count!(LooseLeave, Relaxed, Acquire);
count!(LooseCount, Release, Relaxed);
