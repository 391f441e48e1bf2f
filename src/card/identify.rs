//! Which BAR is which.

use super::{CardError, CardOptions};
use crate::bus::{BARS, Bus};
use crate::regs::{GONE, IDENTIFIER, Identifier, REGISTER_SPACE, Target};

/// Amazon's PCI vendor number.
const AMAZON: u16 = 0x1d0f;
/// Bytes of the register BAR on every card seen so far.
const USUAL_SIZE: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub vendor: u16,
    pub device: u16,
    pub register_bar: usize,
    pub user_bar: Option<usize>,
}

impl Layout {
    /// Looks for the registers.
    ///
    /// On Amazon's cards they are in BAR2, and nothing else is touched: a read from a user BAR whose logic does not answer
    /// costs a time-out. Elsewhere BARs of the usual size are asked first, for the same reason.
    pub fn find(bus: &dyn Bus, options: CardOptions) -> Result<Self, CardError> {
        let (vendor, device) = (bus.config_read(0, 2)? as u16, bus.config_read(2, 2)? as u16);
        if vendor == 0xffff {
            return Err(CardError::Gone { what: "config space" });
        }
        let bars = bus.description().bars;
        let fits = |&bar: &usize| bars[bar] >= REGISTER_SPACE;
        let candidates: Vec<usize> = match options.register_bar {
            Some(bar) => vec![bar],
            None if vendor == AMAZON => vec![2],
            None => {
                let (usual, others): (Vec<_>, Vec<_>) =
                    (0..BARS).filter(fits).partition(|&b| bars[b] == USUAL_SIZE);
                usual.into_iter().chain(others).collect()
            }
        };
        let mut seen = vec![];
        for &bar in candidates.iter().filter(|&&bar| bar < BARS && fits(&bar)) {
            let ids = identifiers(bus, bar)?;
            if ids[0].is(Target::Irq, 0) && ids[1].is(Target::Config, 0) {
                let user_bar = options.user_bar.or_else(|| user_bar(bars, bar));
                return Ok(Self { vendor, device, register_bar: bar, user_bar });
            }
            seen.push((bar, ids));
        }
        if !seen.is_empty() && seen.iter().all(|(_, ids)| ids.iter().all(|id| id.0 == GONE)) {
            return Err(CardError::Gone { what: "the register BAR" });
        }
        Err(CardError::NotXdma { vendor, device, reason: explain(vendor, &candidates, &seen) })
    }
}

fn identifiers(bus: &dyn Bus, bar: usize) -> Result<[Identifier; 2], CardError> {
    let bar = bus.bar(bar)?;
    let read = |target: Target| bar.read32((target.base(0) + IDENTIFIER).into()).map(Identifier);
    Ok([read(Target::Irq)?, read(Target::Config)?])
}

/// As the kernel driver has it: with two BARs, the other one is for user logic if it comes first; with more, the first is.
fn user_bar(bars: [u64; BARS], registers: usize) -> Option<usize> {
    (0..registers).find(|&bar| bars[bar] > 0)
}

fn explain(vendor: u16, candidates: &[usize], seen: &[(usize, [Identifier; 2])]) -> String {
    let mut text = match seen {
        [] => format!("none of BARs {candidates:?} exists with at least 32 KiB"),
        _ => {
            let each = |(bar, ids): &(usize, [Identifier; 2])| {
                format!("BAR{bar} reads {:#010x} at 0x2000 and {:#010x} at 0x3000", ids[0].0, ids[1].0)
            };
            seen.iter().map(each).collect::<Vec<_>>().join(", ")
        }
    };
    text.push_str(", where XDMA has 0x1fc2.... and 0x1fc3....; ");
    text.push_str(match vendor {
        AMAZON => "load an image whose shell has XDMA first (F2's shells have none so far)",
        _ => "load a design with XDMA first, or name the right BAR",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_logic_comes_before_the_registers() {
        assert_eq!(user_bar([32 << 20, 2 << 20, 64 << 10, 0, 1 << 37, 0], 2), Some(0));
        assert_eq!(user_bar([1 << 20, 64 << 10, 0, 0, 0, 0], 1), Some(0));
        assert_eq!(user_bar([64 << 10, 0, 1 << 30, 0, 0, 0], 0), None);
    }

    #[test]
    fn a_card_without_identifiers_is_explained() {
        let text = explain(AMAZON, &[2], &[(2, [Identifier(0), Identifier(1)])]);
        assert!(text.contains("BAR2 reads 0x00000000") && text.contains("F2"), "{text}");
        assert!(explain(0x10ee, &[], &[]).contains("none of BARs"));
    }
}
