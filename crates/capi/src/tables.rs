//! All tables, for what concerns them together.

use crate::buffer::BUFFERS;
use crate::card::CARDS;
use crate::channel::CHANNELS;
use crate::interrupt::INTERRUPTS;
use crate::msm::{JOBS, MSMS};
use crate::msm_data::{POINTS, SCALARS};
use crate::program::PROGRAMS;
use crate::receiver::RECEIVERS;

/// Prepares the tables. Called before the first object is stored.
pub fn mark_null() {
    CARDS.mark_null();
    BUFFERS.mark_null();
    PROGRAMS.mark_null();
    INTERRUPTS.mark_null();
    POINTS.mark_null();
    SCALARS.mark_null();
    JOBS.mark_null();
}

/// Makes all handles invalid, without dropping their objects.
pub fn invalidate_all() {
    CARDS.invalidate_all();
    BUFFERS.invalidate_all();
    CHANNELS.invalidate_all();
    PROGRAMS.invalidate_all();
    RECEIVERS.invalidate_all();
    INTERRUPTS.invalidate_all();
    MSMS.invalidate_all();
    POINTS.invalidate_all();
    SCALARS.invalidate_all();
    JOBS.invalidate_all();
}

/// Detaches all objects of a thread.
pub fn detach_all(owner: u64) {
    CHANNELS.detach_all(owner);
    RECEIVERS.detach_all(owner);
    MSMS.detach_all(owner);
}
