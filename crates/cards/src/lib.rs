#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod bases;
mod cards;
mod computer;
mod error;
mod numa;
mod options;
mod queues;
mod scalar_buffers;
mod scalars;
mod shared;
mod source;
mod split;
mod status;
mod sum;
mod tags;
mod worker;

pub use bases::{Bases, PointSource};
pub use cards::Cards;
pub use error::{
    CardFailure, CardsError, MemberError, PartError, ReadmitError, RegisterError, ScalarsError, SumError,
};
pub use options::CardsOptions;
pub use scalars::Scalars;
pub use source::CardSource;
pub use status::{CardState, CardStatus};
pub use sum::{PartReport, PendingSum, Sum};
