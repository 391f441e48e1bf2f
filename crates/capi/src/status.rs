//! Status codes and remedies.

use std::ffi::{CStr, c_char};
use xdma::Remedy;

/// The result of a call: 0 or positive for success, negative for an error.
pub type xdma_status = i32;

/// The call succeeded.
pub const XDMA_OK: xdma_status = 0;
/// The work is not finished yet. Returned only by functions that poll.
pub const XDMA_PENDING: xdma_status = 1;
/// A pointer or handle that is required is NULL.
pub const XDMA_ERROR_NULL: xdma_status = -1;
/// The handle was closed, is of another type, or was never open.
pub const XDMA_ERROR_HANDLE: xdma_status = -2;
/// The handle belongs to another thread.
pub const XDMA_ERROR_THREAD: xdma_status = -3;
/// Another thread is in a call that excludes this one. Nothing was done.
pub const XDMA_ERROR_BUSY: xdma_status = -4;
/// Handles that depend on this one are still open. Nothing was done.
pub const XDMA_ERROR_IN_USE: xdma_status = -5;
/// This process was forked from the one that opened the handle.
pub const XDMA_ERROR_FORKED: xdma_status = -6;
/// The process has too many handles.
pub const XDMA_ERROR_HANDLES: xdma_status = -7;
/// An argument has an invalid value.
pub const XDMA_ERROR_ARGUMENT: xdma_status = -8;
/// A range is outside of its buffer or BAR, or an offset is not aligned.
pub const XDMA_ERROR_RANGE: xdma_status = -9;
/// A buffer, program, ticket or received block belongs to another card, channel or receiver, or is for the other direction.
pub const XDMA_ERROR_FOREIGN: xdma_status = -10;
/// A ring or queue is full. Nothing was started.
pub const XDMA_ERROR_FULL: xdma_status = -11;
/// Transfers that use the memory are in flight. Nothing was done.
pub const XDMA_ERROR_IN_FLIGHT: xdma_status = -12;
/// The time limit expired. The work is still in flight.
pub const XDMA_ERROR_TIMEOUT: xdma_status = -13;
/// The engine failed, or was stopped or reset. Work in flight is lost.
pub const XDMA_ERROR_ENGINE: xdma_status = -14;
/// An engine does not become idle. Memory in flight stays allocated.
pub const XDMA_ERROR_HUNG: xdma_status = -15;
/// The card cannot be reached.
pub const XDMA_ERROR_GONE: xdma_status = -16;
/// The kernel is taking the card away.
pub const XDMA_ERROR_RECALLED: xdma_status = -17;
/// Memory could not be allocated or mapped.
pub const XDMA_ERROR_MEMORY: xdma_status = -18;
/// The card or channel is in use by another process, or is already open.
pub const XDMA_ERROR_TAKEN: xdma_status = -19;
/// There is no card of this name.
pub const XDMA_ERROR_NOT_FOUND: xdma_status = -20;
/// This user lacks a permission.
pub const XDMA_ERROR_PERMISSION: xdma_status = -21;
/// The host is not prepared, for example because the card is bound to another driver.
pub const XDMA_ERROR_HOST: xdma_status = -22;
/// The card does not have what was requested.
pub const XDMA_ERROR_UNSUPPORTED: xdma_status = -23;
/// A point is not on the curve, or a scalar is not below r.
pub const XDMA_ERROR_DATA: xdma_status = -24;
/// The job or its result is lost, or its result was already returned.
pub const XDMA_ERROR_LOST: xdma_status = -25;
/// A bug in this library. The object may be unusable; close it.
pub const XDMA_ERROR_INTERNAL: xdma_status = -26;

/// What to do about an error.
pub type xdma_remedy = u32;

/// There is no error.
pub const XDMA_REMEDY_NONE: xdma_remedy = 0;
/// The request is invalid, and repeating it fails again. The message states what to change.
pub const XDMA_REMEDY_CORRECT: xdma_remedy = 1;
/// Something is in use or full, and nothing was started. Poll or wait for earlier work, or close what holds it, then try again.
pub const XDMA_REMEDY_TRY_AGAIN: xdma_remedy = 2;
/// The work is still in flight. Wait again, or stop the channel.
pub const XDMA_REMEDY_WAIT_AGAIN: xdma_remedy = 3;
/// The work was lost. Recover the channel, receiver or MSM client, then submit the work again.
pub const XDMA_REMEDY_RECOVER: xdma_remedy = 4;
/// An engine does not stop. Reset the card.
pub const XDMA_REMEDY_RESET: xdma_remedy = 5;
/// The card cannot be reached. Close it, and open it again once it is available.
pub const XDMA_REMEDY_REOPEN: xdma_remedy = 6;
/// Close the handle.
pub const XDMA_REMEDY_CLOSE: xdma_remedy = 7;
/// The host needs to be prepared: permissions, limits, hugepages, or the card's driver. `vfio-setup doctor` lists what is missing.
pub const XDMA_REMEDY_PREPARE_HOST: xdma_remedy = 8;
/// The card does not have what was requested. Use other options, or another card.
pub const XDMA_REMEDY_UNSUPPORTED: xdma_remedy = 9;

/// Returns the C constant for a remedy.
pub(crate) fn remedy(remedy: Remedy) -> xdma_remedy {
    match remedy {
        Remedy::TryAgain => XDMA_REMEDY_TRY_AGAIN,
        Remedy::WaitAgain => XDMA_REMEDY_WAIT_AGAIN,
        Remedy::Recover => XDMA_REMEDY_RECOVER,
        Remedy::Reset => XDMA_REMEDY_RESET,
        Remedy::Reopen => XDMA_REMEDY_REOPEN,
        Remedy::Close => XDMA_REMEDY_CLOSE,
        Remedy::PrepareHost => XDMA_REMEDY_PREPARE_HOST,
        Remedy::Unsupported => XDMA_REMEDY_UNSUPPORTED,
        // `Correct`, and any remedy that is added later.
        _ => XDMA_REMEDY_CORRECT,
    }
}

/// Returns the status of errors of which nothing but the remedy matters.
pub(crate) fn of_remedy(remedy: Remedy) -> xdma_status {
    match remedy {
        Remedy::TryAgain => XDMA_ERROR_FULL,
        Remedy::WaitAgain => XDMA_ERROR_TIMEOUT,
        Remedy::Recover => XDMA_ERROR_ENGINE,
        Remedy::Reset => XDMA_ERROR_HUNG,
        Remedy::Reopen => XDMA_ERROR_GONE,
        Remedy::Close => XDMA_ERROR_RECALLED,
        Remedy::PrepareHost => XDMA_ERROR_HOST,
        Remedy::Unsupported => XDMA_ERROR_UNSUPPORTED,
        _ => XDMA_ERROR_ARGUMENT,
    }
}

/// Returns a sentence that says what a remedy means.
pub(crate) fn advice(remedy: xdma_remedy) -> &'static CStr {
    match remedy {
        XDMA_REMEDY_NONE => c"There is no error.",
        XDMA_REMEDY_CORRECT => c"Correct the call.",
        XDMA_REMEDY_TRY_AGAIN => c"Wait for earlier work, or close what is in use, then try again.",
        XDMA_REMEDY_WAIT_AGAIN => c"Wait again, or stop the channel.",
        XDMA_REMEDY_RECOVER => c"Recover the channel, receiver or MSM client, then submit the work again.",
        XDMA_REMEDY_RESET => c"Reset the card.",
        XDMA_REMEDY_REOPEN => c"Close the card, and open it again once it is available.",
        XDMA_REMEDY_CLOSE => c"Close the handle.",
        XDMA_REMEDY_PREPARE_HOST => c"Prepare the host; `vfio-setup doctor` lists what is missing.",
        _ => c"Use other options, or another card.",
    }
}

/// Returns the name of a status, such as "XDMA_ERROR_TIMEOUT".
///
/// The string is static. For a number that is not a status, it is "unknown status". Any thread may call this. It does not fail.
#[unsafe(no_mangle)]
pub extern "C" fn xdma_status_name(status: xdma_status) -> *const c_char {
    name(status).as_ptr()
}

macro_rules! names {
    ($($status:ident: $name:literal),* $(,)?) => {
        fn name(status: xdma_status) -> &'static CStr {
            match status {
                $($status => $name,)*
                _ => c"unknown status",
            }
        }

        #[cfg(test)]
        const NAMES: &[(&str, &CStr)] = &[$((stringify!($status), $name)),*];
    };
}

names! {
    XDMA_OK: c"XDMA_OK",
    XDMA_PENDING: c"XDMA_PENDING",
    XDMA_ERROR_NULL: c"XDMA_ERROR_NULL",
    XDMA_ERROR_HANDLE: c"XDMA_ERROR_HANDLE",
    XDMA_ERROR_THREAD: c"XDMA_ERROR_THREAD",
    XDMA_ERROR_BUSY: c"XDMA_ERROR_BUSY",
    XDMA_ERROR_IN_USE: c"XDMA_ERROR_IN_USE",
    XDMA_ERROR_FORKED: c"XDMA_ERROR_FORKED",
    XDMA_ERROR_HANDLES: c"XDMA_ERROR_HANDLES",
    XDMA_ERROR_ARGUMENT: c"XDMA_ERROR_ARGUMENT",
    XDMA_ERROR_RANGE: c"XDMA_ERROR_RANGE",
    XDMA_ERROR_FOREIGN: c"XDMA_ERROR_FOREIGN",
    XDMA_ERROR_FULL: c"XDMA_ERROR_FULL",
    XDMA_ERROR_IN_FLIGHT: c"XDMA_ERROR_IN_FLIGHT",
    XDMA_ERROR_TIMEOUT: c"XDMA_ERROR_TIMEOUT",
    XDMA_ERROR_ENGINE: c"XDMA_ERROR_ENGINE",
    XDMA_ERROR_HUNG: c"XDMA_ERROR_HUNG",
    XDMA_ERROR_GONE: c"XDMA_ERROR_GONE",
    XDMA_ERROR_RECALLED: c"XDMA_ERROR_RECALLED",
    XDMA_ERROR_MEMORY: c"XDMA_ERROR_MEMORY",
    XDMA_ERROR_TAKEN: c"XDMA_ERROR_TAKEN",
    XDMA_ERROR_NOT_FOUND: c"XDMA_ERROR_NOT_FOUND",
    XDMA_ERROR_PERMISSION: c"XDMA_ERROR_PERMISSION",
    XDMA_ERROR_HOST: c"XDMA_ERROR_HOST",
    XDMA_ERROR_UNSUPPORTED: c"XDMA_ERROR_UNSUPPORTED",
    XDMA_ERROR_DATA: c"XDMA_ERROR_DATA",
    XDMA_ERROR_LOST: c"XDMA_ERROR_LOST",
    XDMA_ERROR_INTERNAL: c"XDMA_ERROR_INTERNAL",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_name() {
        let constants = include_str!("status.rs").lines();
        let constants =
            constants.filter(|line| line.starts_with("pub const ") && line.contains(": xdma_status"));
        assert_eq!(constants.count(), NAMES.len());
        assert!(NAMES.iter().all(|(constant, name)| name.to_str() == Ok(constant)));
        assert_eq!(name(7), c"unknown status");
    }

    #[test]
    fn each_remedy_has_its_own_advice() {
        let advice: std::collections::BTreeSet<_> = (0..=9).map(advice).collect();
        assert_eq!(advice.len(), 10);
    }
}
