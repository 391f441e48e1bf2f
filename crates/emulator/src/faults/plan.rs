//! Fault plans: which faults to inject, where and when. A plan is written by hand or generated from a seed.

use super::{BadCompletion, FaultDuration, Kind};
use crate::ChannelId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use xdma_regs::{Direction, MAX_CHANNELS};

/// A fault with its channel and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// The fault to inject.
    pub fault: Kind,
    /// The channel. Without one, the fault is injected into the first channel that reaches the injection point. Ignored for
    /// faults of the [whole card](Kind::is_card_wide).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<ChannelId>,
    /// The number of opportunities to skip before the first injection. Opportunities are events that match the fault (descriptor
    /// fetches, bursts, write-backs, accesses, ...); this is not a time.
    #[serde(default)]
    pub after: u64,
    /// The number of consecutive opportunities at which the fault is injected; 0 means always.
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
    /// Creates an injection that hits a channel at its next opportunity for this fault.
    pub fn on(self, direction: Direction, index: usize) -> Injection {
        Injection { on: Some(ChannelId { direction, index }), ..self.into() }
    }
}

impl Injection {
    /// Number of opportunities to skip before the fault is injected.
    #[must_use]
    pub fn after(self, after: u64) -> Self {
        Self { after, ..self }
    }

    /// Injects the fault this number of times; 0 means always.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }
}

/// A set of faults to inject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// The faults, in any order. Each one waits for its own injection point.
    pub faults: Vec<Injection>,
}

impl Plan {
    /// Generates a plan of three to eight faults; the same seed always gives the same plan. The plan contains only faults that a
    /// driver can detect, and that end on their own or with a stop or a reset. It never contains [silent](Kind::is_silent)
    /// faults, and never removes the card.
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
    let on = (!fault.is_card_wide() && rng.random_bool(0.75)).then_some(ChannelId { direction, index });
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
        match Kind::ALL[rng.random_range(0..Kind::ALL.len())] {
            fault if fault.is_silent() => {}
            Kind::LinkDown | Kind::LinkUp | Kind::ProcessGone => {}
            // Recovery from these would depend on a reset, which not every card supports.
            Kind::StatusStuck(_) | Kind::ResetIneffective => {}
            Kind::Fetch(_) => return Kind::Fetch(completion),
            Kind::HostRead(_) => return Kind::HostRead(completion),
            Kind::WriteBackDelayed(_) => return Kind::WriteBackDelayed(millis),
            Kind::InterruptLate(_) => return Kind::InterruptLate(millis),
            Kind::AxiHang(_) => return Kind::AxiHang(FaultDuration::Millis(millis)),
            Kind::BusyStuck(_) => return Kind::BusyStuck(FaultDuration::Millis(millis)),
            Kind::AllOnes(_) => return Kind::AllOnes(FaultDuration::Millis(millis)),
            fault => return fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        assert_eq!(Plan::chaos(7), Plan::chaos(7));
        let plans: Vec<_> = (0..100).map(Plan::chaos).collect();
        let drawn = |name| plans.iter().flat_map(|plan| &plan.faults).any(|entry| entry.fault.name() == name);
        assert!(drawn("Fetch") && drawn("AxiHang") && drawn("AllOnes") && drawn("WriteBackRepeated"));
        assert!(!drawn("HostWriteDropped") && !drawn("ProcessGone"));
    }

    #[test]
    fn plans_round_trip_through_toml() {
        for seed in 0..100 {
            let plan = Plan::chaos(seed);
            assert_eq!(toml::from_str::<Plan>(&toml::to_string(&plan).unwrap()).unwrap(), plan);
        }
        let text = "[[faults]]\nfault = { AxiHang = { Millis = 20 } }\non = { direction = \"H2C\", index = 0 }\nafter = 3\n\
                    [[faults]]\nfault = \"LinkDown\"\n";
        let plan: Plan = toml::from_str(text).unwrap();
        let hang = Kind::AxiHang(FaultDuration::Millis(20)).on(Direction::H2C, 0).after(3);
        assert_eq!(plan.faults, [hang, Kind::LinkDown.into()]);
        assert!(toml::from_str::<Plan>("[[faults]]\nfault = \"LinkDown\"\nwhen = 3\n").is_err());
    }
}
