//! Handles of one card on a channel of another: each use must be refused and must change nothing.

use super::channel_model::{ChannelModel, LIMIT};
use super::host::{Check, HostBuffer, transfers};
use super::plan::{ForeignUse, Move};
use xdma::channel::{
    InvalidTransfer, PollError, Program, ProgramError, SubmitError, Ticket, TransferError, Transfers,
    WaitError,
};

/// Handles of a channel, for use with another.
pub struct ForeignHandles {
    buffer: HostBuffer,
    program: Option<Program>,
    tickets: Vec<Ticket>,
}

impl ChannelModel {
    /// Returns memory, a program and tickets of this channel.
    pub fn handles(&mut self) -> Check<ForeignHandles> {
        let moves = [(self.buffers[0].clone(), Move { buffer: 0, host: 0, card: 0, len: 64 })];
        let list = transfers(self.side, self.base, &moves)?;
        let program = match &self.channel {
            Some(channel) => Some(channel.program(&list).map_err(|error| format!("not built: {error}"))?),
            None => None,
        };
        let last = self.channel.as_ref().and_then(|channel| channel.last_ticket());
        let tickets = last.into_iter().chain(self.old_ticket).collect();
        Ok(ForeignHandles { buffer: self.buffers[0].clone(), program, tickets })
    }

    /// Tries to use handles of another card.
    pub fn use_foreign(&mut self, what: ForeignUse, handles: &ForeignHandles) -> Check {
        let before = self.counts();
        match what {
            ForeignUse::Memory => {
                let base = self.base;
                let channel = self.channel();
                refused(handles.buffer.with(|buffer| channel.submit(buffer, 0..64, base)), is_memory)?;
                let transferred = handles.buffer.with(|buffer| channel.transfer(buffer, 1..99, base, LIMIT));
                refused(
                    transferred,
                    |error| matches!(error, TransferError::Submit(error) if is_memory(error)),
                )?;
            }
            ForeignUse::List => {
                let list = self.foreign_list(handles)?;
                refused(self.channel().start(&list), is_memory)?;
            }
            ForeignUse::Build => {
                let list = self.foreign_list(handles)?;
                refused(self.channel().program(&list), |error| {
                    matches!(error, ProgramError::Invalid(InvalidTransfer::ForeignMemory))
                })?;
            }
            ForeignUse::Program => {
                if let Some(program) = &handles.program {
                    refused(self.channel().run(program), |error| matches!(error, SubmitError::WrongChannel))?;
                }
            }
            ForeignUse::Ticket => {
                for &ticket in handles.tickets.iter().chain(&self.old_ticket.clone()) {
                    refused(self.channel().poll(ticket), |error| matches!(error, PollError::ForeignTicket))?;
                    let waited = self.channel().wait(ticket, LIMIT);
                    refused(waited, |error| matches!(error, WaitError::ForeignTicket))?;
                }
            }
        }
        let after = self.counts();
        if after == before {
            Ok(())
        } else {
            Err(format!("a refused call changed the counts from {before:?} to {after:?}"))
        }
    }

    fn foreign_list(&self, handles: &ForeignHandles) -> Check<Transfers> {
        let moves =
            [0, 64].map(|at| (handles.buffer.clone(), Move { buffer: 0, host: at, card: at, len: 64 }));
        transfers(self.side, self.base, &moves)
    }

    /// Returns the jobs in flight and the jobs submitted, which a refused call does not change.
    fn counts(&mut self) -> (usize, u64) {
        let channel = self.channel();
        (channel.in_flight(), channel.stats().submitted)
    }
}

fn is_memory(error: &SubmitError) -> bool {
    matches!(error, SubmitError::Invalid(InvalidTransfer::ForeignMemory))
}

fn refused<T, E: std::fmt::Display>(result: Result<T, E>, is_expected: impl Fn(&E) -> bool) -> Check {
    match result {
        Err(error) if is_expected(&error) => Ok(()),
        Err(error) => Err(format!("refused for another reason: {error}")),
        Ok(_) => Err("a handle of another card was accepted".into()),
    }
}
