//! The start and the end of a job.

use crate::failure::exit_code;
use crate::options::Options;
use crate::root::Root;
use crate::worker::Worker;
use crate::world::World;
use std::error::Error;
use std::process::ExitCode;

/// An error of a rank's program.
pub type BoxedError = Box<dyn Error + Send + Sync>;

/// The role of this process in its job.
pub enum Member<'a> {
    /// Rank 0, or a process without a launcher. It computes sums with the cards of all ranks.
    Root(Root<'a>),
    /// Any other rank. It serves the root.
    Worker(Worker<'a>),
}

impl Member<'_> {
    /// Returns this process's rank.
    pub fn rank(&self) -> usize {
        match self {
            Self::Root(_) => 0,
            Self::Worker(worker) => worker.rank(),
        }
    }
}

/// Runs `program` as a rank of a job, and returns the process's exit code. Call it once, from the main thread.
///
/// If a launcher such as `mpirun` or Slurm started the process, this function initializes MPI. Otherwise, the process is the
/// only rank, and MPI is not called. It does not even have to be installed correctly.
///
/// A job succeeds on all ranks or on none. The job ends on all ranks if `program` returns an error, if it returns before the
/// root is done, or if any thread panics. The process then exits with an [exit code](exit_code) and a message that names the
/// rank, and this function does not return. It sets a panic hook for that purpose.
pub fn run(options: Options, program: impl FnOnce(Member<'_>) -> Result<(), BoxedError>) -> ExitCode {
    let world = match World::join(options) {
        Ok(Some(world)) => world,
        Ok(None) => return end(program(Member::Root(Root::new(None, options)))),
        Err(failure) => return end(Err(failure.into())),
    };
    let member = match world.is_root() {
        true => Member::Root(Root::new(Some(&world), options)),
        false => Member::Worker(Worker::new(&world)),
    };
    match program(member) {
        Ok(()) => world.finish(),
        Err(error) => world.fail(chain(&*error)),
    }
    ExitCode::SUCCESS
}

/// Prints an error, as if `main` had returned it, and returns the exit code of a process without other ranks.
fn end(result: Result<(), BoxedError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xdma-mpi: {}", chain(&*error));
            ExitCode::from(exit_code::FAILED)
        }
    }
}

/// Returns the text of an error and its sources. Leaves out the text of a source that the error already repeats.
fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
