//! One card's things in the hands of another card's channel: refused, and nothing is changed.

use super::host::{Check, Host, transfers};
use super::lane::{LIMIT, Lane};
use super::plan::{Foreign, Move};
use xdma::channel::{EngineError, Program, Ticket, Transfers};

/// What a lane has to offer to another.
pub struct Offer {
    host: Host,
    program: Option<Program>,
    tickets: Vec<Ticket>,
}

impl Lane {
    /// Memory, a program and tickets of this lane.
    pub fn offer(&mut self) -> Check<Offer> {
        let moves = [(self.hosts[0].clone(), Move { buffer: 0, host: 0, card: 0, len: 64 })];
        let list = transfers(self.side, self.base, &moves)?;
        let program = match &self.channel {
            Some(channel) => Some(channel.program(&list).map_err(|error| format!("not built: {error}"))?),
            None => None,
        };
        let last = self.channel.as_ref().and_then(|channel| channel.last_ticket());
        let tickets = last.into_iter().chain(self.old_ticket).collect();
        Ok(Offer { host: self.hosts[0].clone(), program, tickets })
    }

    /// Tries to use what another card's lane offers.
    pub fn use_foreign(&mut self, what: Foreign, offer: &Offer) -> Check {
        let before = self.account();
        match what {
            Foreign::Memory => {
                let base = self.base;
                let channel = self.channel();
                refused(offer.host.with(|buffer| channel.submit(buffer, 0..64, base)), is_memory)?;
                refused(offer.host.with(|buffer| channel.transfer(buffer, 1..99, base, LIMIT)), is_memory)?;
            }
            Foreign::List => {
                let list = self.foreign_list(offer)?;
                refused(self.channel().start(&list), is_memory)?;
            }
            Foreign::Build => {
                let list = self.foreign_list(offer)?;
                refused(self.channel().program(&list), is_memory)?;
            }
            Foreign::Program => {
                if let Some(program) = &offer.program {
                    refused(self.channel().run(program), |error| {
                        matches!(error, EngineError::ForeignProgram)
                    })?;
                }
            }
            Foreign::Ticket => {
                for &ticket in offer.tickets.iter().chain(&self.old_ticket.clone()) {
                    refused(self.channel().poll(ticket), is_ticket)?;
                    refused(self.channel().wait(ticket, LIMIT), is_ticket)?;
                }
            }
        }
        let after = self.account();
        if after == before { Ok(()) } else { Err(format!("what was refused left {after:?} of {before:?}")) }
    }

    fn foreign_list(&self, offer: &Offer) -> Check<Transfers> {
        let moves = [0, 64].map(|at| (offer.host.clone(), Move { buffer: 0, host: at, card: at, len: 64 }));
        transfers(self.side, self.base, &moves)
    }

    /// What a refusal leaves as it is.
    fn account(&mut self) -> (usize, u64) {
        let channel = self.channel();
        (channel.in_flight(), channel.stats().submitted)
    }
}

fn is_memory(error: &EngineError) -> bool {
    matches!(error, EngineError::ForeignMemory)
}

fn is_ticket(error: &EngineError) -> bool {
    matches!(error, EngineError::ForeignTicket)
}

fn refused<T>(result: Result<T, EngineError>, right: impl Fn(&EngineError) -> bool) -> Check {
    match result {
        Err(error) if right(&error) => Ok(()),
        Err(error) => Err(format!("refused for another reason: {error}")),
        Ok(_) => Err("another card's things were taken".into()),
    }
}
