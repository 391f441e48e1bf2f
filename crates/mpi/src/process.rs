//! This process: how it was started, and how it ends.

use crate::failure::exit_code;
use mpi::ffi;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{AsRaw, Communicator};
use std::panic;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Returns the number of processes that the launcher started, if the launcher reports it, or `None` if no launcher started this
/// process.
#[allow(clippy::option_option)]
pub(crate) fn launched_processes() -> Option<Option<usize>> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    // Open MPI; MPICH, Intel MPI, and Slurm with PMI-2. Slurm with PMIx does not report the number.
    let sizes = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];
    let is_launched =
        sizes.iter().chain(&["PMI_RANK", "PMIX_RANK"]).any(|name| std::env::var_os(name).is_some());
    is_launched.then(|| sizes.into_iter().find_map(number))
}

/// Makes a panic on any thread end the job. Otherwise, unwinding would finalize MPI, and this would wait for ranks that wait
/// for this one.
pub(crate) fn abort_on_panic(communicator: &SimpleCommunicator) {
    struct Handle(ffi::MPI_Comm);
    // SAFETY: the handle of MPI_COMM_WORLD is valid in all threads until MPI is finalized.
    unsafe impl Send for Handle {}
    // SAFETY: as above.
    unsafe impl Sync for Handle {}
    impl Handle {
        fn abort(&self) {
            // SAFETY: the handle is valid. The call does not return, and only aborting is left to do. If the library does not allow
            // calls from this thread, the process at worst aborts in another way.
            unsafe { ffi::MPI_Abort(self.0, exit_code::PANIC.into()) };
        }
    }
    let (handle, rank, print) = (Handle(communicator.as_raw()), communicator.rank(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        print(info);
        eprintln!(
            "xdma-mpi: rank {rank} panicked; the job ends without a result (exit code {})",
            exit_code::PANIC
        );
        handle.abort();
    }));
}

/// Ends the process unless the returned value is dropped in time, once MPI is finalized. Another rank may be killed at that moment.
#[must_use]
pub(crate) fn abort_if_finalizing_takes_longer_than(limit: Duration) -> Sender<()> {
    let (finalizing, finalized) = channel();
    thread::spawn(move || {
        // The program may do other things afterwards, for any time.
        if finalized.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("xdma-mpi: finalizing MPI took longer than {limit:.0?}; another rank may have died");
            std::process::exit(exit_code::SILENT.into());
        }
    });
    finalizing
}

/// The pause between two polls. It grows, so that a short wait is precise and a long one costs hardly any processor time.
pub(crate) struct Pause(Duration);

impl Pause {
    const FIRST: Duration = Duration::from_micros(1);
    const LONGEST: Duration = Duration::from_millis(1);

    pub fn new() -> Self {
        Self(Self::FIRST)
    }

    pub fn sleep(&mut self) {
        thread::sleep(self.0);
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_continues_after_mpi_is_finalized() {
        let limit = Duration::from_millis(50);
        drop(abort_if_finalizing_takes_longer_than(limit));
        // Otherwise, the process ends here.
        thread::sleep(4 * limit);
    }
}
