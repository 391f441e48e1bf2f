//! What is to go wrong, where and when: written down, or drawn from a seed.

use super::{BadCompletion, Kind, Lasting};
use crate::ChannelId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use xdma_regs::{Direction, MAX_CHANNELS};

/// A fault with its place and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// What goes wrong.
    pub fault: Kind,
    /// The channel; without one, whichever has the occasion. Of no meaning to faults [of the card](Kind::is_of_card).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<ChannelId>,
    /// So many occasions pass before: requests of its kind (descriptor fetches, bursts, write-backs, accesses, ...), not
    /// time.
    #[serde(default)]
    pub after: u64,
    /// How often it strikes, one occasion after the other; 0 stands for always.
    #[serde(default = "once")]
    pub times: u64,
}

const fn once() -> u64 {
    1
}

impl From<Kind> for Injection {
    fn from(fault: Kind) -> Self {
        Self { fault, on: None, after: 0, times: 1 }
    }
}

impl Kind {
    /// This on a channel, at the next occasion.
    pub fn on(self, direction: Direction, index: usize) -> Injection {
        Injection { on: Some(ChannelId { direction, index }), ..self.into() }
    }
}

impl Injection {
    /// This after so many occasions.
    #[must_use]
    pub fn after(self, after: u64) -> Self {
        Self { after, ..self }
    }

    /// This so often; 0 stands for always.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }
}

/// Faults to come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// In no order: each waits for its own occasion.
    pub faults: Vec<Injection>,
}

impl Plan {
    /// Three to eight faults drawn from a seed: the same seed makes the same plan. Only such as a driver can notice, and as
    /// a stop, a reset or an end of their own heals: nothing [silent](Kind::is_silent), no card that is gone.
    pub fn chaos(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(3..=8);
        Self { faults: (0..count).map(|_| chaos(&mut rng)).collect() }
    }
}

fn chaos(rng: &mut StdRng) -> Injection {
    let fault = draw(rng);
    let index = rng.random_range(0..MAX_CHANNELS);
    let direction = match fault {
        Kind::HostRead(_) => Direction::H2C,
        _ if rng.random_bool(0.5) => Direction::H2C,
        _ => Direction::C2H,
    };
    let on = (!fault.is_of_card() && rng.random_bool(0.75)).then_some(ChannelId { direction, index });
    Injection { fault, on, after: rng.random_range(0..200), times: rng.random_range(1..=3) }
}

fn draw(rng: &mut StdRng) -> Kind {
    const COMPLETIONS: [BadCompletion; 5] = [
        BadCompletion::UnsupportedRequest,
        BadCompletion::CompleterAbort,
        BadCompletion::Parity,
        BadCompletion::Poisoned,
        BadCompletion::Unexpected,
    ];
    let completion = COMPLETIONS[rng.random_range(0..COMPLETIONS.len())];
    let millis = rng.random_range(1..20);
    loop {
        match Kind::EACH[rng.random_range(0..Kind::EACH.len())] {
            fault if fault.is_silent() => {}
            Kind::LinkDown | Kind::LinkUp | Kind::ProcessGone => {}
            // What makes recovery depend on a reset, which not every card has.
            Kind::StatusStuck(_) | Kind::ResetIneffective => {}
            Kind::Fetch(_) => return Kind::Fetch(completion),
            Kind::HostRead(_) => return Kind::HostRead(completion),
            Kind::WriteBackDelayed(_) => return Kind::WriteBackDelayed(millis),
            Kind::InterruptLate(_) => return Kind::InterruptLate(millis),
            Kind::AxiHang(_) => return Kind::AxiHang(Lasting::Millis(millis)),
            Kind::BusyStuck(_) => return Kind::BusyStuck(Lasting::Millis(millis)),
            Kind::AllOnes(_) => return Kind::AllOnes(Lasting::Millis(millis)),
            fault => return fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(Plan::chaos(7), Plan::chaos(7));
        let plans: Vec<_> = (0..100).map(Plan::chaos).collect();
        let drawn = |name| plans.iter().flat_map(|plan| &plan.faults).any(|entry| entry.fault.name() == name);
        assert!(drawn("Fetch") && drawn("AxiHang") && drawn("AllOnes") && drawn("WriteBackRepeated"));
        assert!(!drawn("HostWriteDropped") && !drawn("ProcessGone"));
    }

    #[test]
    fn a_plan_is_written_as_it_is_read() {
        for seed in 0..100 {
            let plan = Plan::chaos(seed);
            assert_eq!(toml::from_str::<Plan>(&toml::to_string(&plan).unwrap()).unwrap(), plan);
        }
        let text = "[[faults]]\nfault = { AxiHang = { Millis = 20 } }\non = { direction = \"H2C\", index = 0 }\nafter = 3\n\
                    [[faults]]\nfault = \"LinkDown\"\n";
        let plan: Plan = toml::from_str(text).unwrap();
        let hang = Kind::AxiHang(Lasting::Millis(20)).on(Direction::H2C, 0).after(3);
        assert_eq!(plan.faults, [hang, Kind::LinkDown.into()]);
        assert!(toml::from_str::<Plan>("[[faults]]\nfault = \"LinkDown\"\nwhen = 3\n").is_err());
    }
}
