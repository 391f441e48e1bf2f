//! The failures that end a job.

use std::fmt;
use std::time::Duration;

/// The exit codes of a job that fails, which are passed to `MPI_Abort`. `mpirun` exits with the same code. A rank that is
/// killed by a signal ends the job with 128 plus the signal's number.
pub mod exit_code {
    /// A rank failed: its cards, or its program.
    pub const FAILED: u8 = 70;
    /// A rank's program returned before the end of the job.
    pub const LEFT: u8 = 71;
    /// The ranks do not match: a rank has another version, or was built with another MPI library than that of the launcher.
    pub const INCOMPATIBLE: u8 = 72;
    /// Ranks have different bases.
    pub const DIFFERENT_BASES: u8 = 73;
    /// A rank was silent past its deadline, or late.
    pub const SILENT: u8 = 75;
    /// The root was silent past a worker's deadline.
    pub const ROOT_SILENT: u8 = 76;
    /// A thread panicked.
    pub const PANIC: u8 = 101;
}

/// A rank, and the host on which it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The rank in `MPI_COMM_WORLD`.
    pub rank: usize,
    /// The host's name, if the rank has reported it.
    pub host: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "rank {} (host {host})", self.rank),
            None => write!(f, "rank {} (host unknown, it never answered)", self.rank),
        }
    }
}

/// Why a job ended without a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The cards or the program of a rank failed.
    #[error("{place}: {cause}")]
    Rank {
        /// The rank.
        place: Place,
        /// The cause. It names the card, if there is one.
        cause: String,
    },
    /// The program of a rank returned before the end of the job.
    #[error("{place}: its program returned before the end of the job; it must call `Worker::serve`")]
    Left {
        /// The rank.
        place: Place,
    },
    /// Ranks have other bases than the root.
    #[error("{} other bases than the root: another key file, or another order; use the same on all ranks", places_have(.places))]
    DifferentBases {
        /// The ranks.
        places: Vec<Place>,
    },
    /// A rank was built from another version.
    #[error("{place}: it runs version {version} of this program, but the root runs {}; start the same program on all hosts", env!("CARGO_PKG_VERSION"))]
    Version {
        /// The rank.
        place: Place,
        /// Its version.
        version: String,
    },
    /// A rank sent a message that cannot be read.
    #[error("{place}: cannot read its message ({cause}); start the same program on all hosts")]
    Unreadable {
        /// The rank.
        place: Place,
        /// The cause.
        cause: String,
    },
    /// The launcher started several processes that cannot reach each other through MPI.
    #[error(
        "the launcher started {launched} processes, but MPI sees {seen}; use the `mpirun` of the MPI library with which this program was built"
    )]
    OtherMpi {
        /// Number of processes according to the launcher.
        launched: usize,
        /// Number of processes according to the MPI library.
        seen: usize,
    },
    /// The program has initialized MPI itself.
    #[error(
        "MPI is already initialized; `xdma_mpi::run` initializes it, and must be called only once, before any other use of MPI"
    )]
    AlreadyInitialized,
    /// Ranks did not finish a step in time.
    #[error("waited {waited:.1?} for {phase}: {}", answers(.silent, .late))]
    Silent {
        /// What the root waited for.
        phase: &'static str,
        /// How long it waited.
        waited: Duration,
        /// Ranks that do not answer.
        silent: Vec<String>,
        /// Ranks that answer, with what they are doing.
        late: Vec<String>,
    },
    /// The root did not finish a step in time.
    #[error("{reporter} waited {waited:.1?} for {phase}: no answer from the root, rank 0")]
    RootSilent {
        /// What was waited for.
        phase: &'static str,
        /// How long.
        waited: Duration,
        /// The rank that reports this.
        reporter: Place,
    },
}

impl Failure {
    /// Returns the [exit code](exit_code).
    pub fn code(&self) -> u8 {
        match self {
            Self::Rank { .. } | Self::AlreadyInitialized => exit_code::FAILED,
            Self::Left { .. } => exit_code::LEFT,
            Self::Version { .. } | Self::Unreadable { .. } | Self::OtherMpi { .. } => exit_code::INCOMPATIBLE,
            Self::DifferentBases { .. } => exit_code::DIFFERENT_BASES,
            Self::Silent { .. } => exit_code::SILENT,
            Self::RootSilent { .. } => exit_code::ROOT_SILENT,
        }
    }
}

fn places_have(places: &[Place]) -> String {
    let names: Vec<_> = places.iter().map(Place::to_string).collect();
    format!("{} {}", names.join(", "), if names.len() == 1 { "has" } else { "have" })
}

fn answers(silent: &[String], late: &[String]) -> String {
    let list =
        |title: &str, names: &[String]| (!names.is_empty()).then(|| format!("{title} {}", names.join(", ")));
    let lists = [list("no answer from", silent), list("late, but alive:", late)];
    lists.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_rank_and_the_host() {
        let place = |rank| Place { rank, host: Some("nodeb".into()) };
        let bases = Failure::DifferentBases { places: vec![place(2), place(3)] };
        assert!(
            bases.to_string().starts_with("rank 2 (host nodeb), rank 3 (host nodeb) have other bases"),
            "{bases}"
        );
        let silent = Failure::Silent {
            phase: "the parts",
            waited: Duration::from_secs(5),
            silent: vec![place(1).to_string()],
            late: vec![],
        };
        assert_eq!(silent.to_string(), "waited 5.0s for the parts: no answer from rank 1 (host nodeb)");
        let unknown = Failure::Left { place: Place { rank: 7, host: None } };
        assert!(unknown.to_string().starts_with("rank 7 (host unknown"), "{unknown}");
    }
}
