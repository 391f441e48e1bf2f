//! Errors of channels: one type per operation.

mod engine;
mod open;
mod submit;
mod wait;

pub use engine::EngineError;
pub(super) use engine::Fail;
pub use open::{CloseError, OpenError, PoolError};
pub(super) use submit::Refusal;
pub use submit::{InvalidTransfer, ProgramError, SubmitError};
pub use wait::{PollError, ScopeError, TransferError, WaitError};
