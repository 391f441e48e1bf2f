// Without the feature, the package builds where no MPI is installed, and is empty.
#![cfg(feature = "mpi")]
#![cfg_attr(feature = "mpi", doc = include_str!("../README.md"))]
#![deny(missing_docs)]

mod failure;
mod message;
mod options;
mod process;
mod report;
mod root;
mod session;
mod shares;
mod wire;
mod worker;
mod world;

pub use failure::{Failure, Place, exit_code};
pub use options::Options;
pub use report::{CardPart, FailedPart, PartReport, RankReport, SumReport};
pub use root::{Ranks, Root, RootBases, RootError};
pub use session::{BoxedError, Member, run};
pub use worker::Worker;
