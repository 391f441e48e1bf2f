//! Identifying the BARs of a card.

use super::{CardError, CardOptions};
use crate::bus::{BARS, Bus};
use crate::regs::{GONE, IDENTIFIER, Identifier, REGISTER_SPACE, Target};

/// Amazon's PCI vendor ID.
const AMAZON: u16 = 0x1d0f;
/// Size in bytes of the register BAR on all known cards.
const USUAL_SIZE: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub vendor: u16,
    pub device: u16,
    pub register_bar: usize,
    pub user_bar: Option<usize>,
}

impl Layout {
    /// Finds the BAR with the XDMA registers.
    ///
    /// On Amazon's cards it is BAR2, and no other BAR is read: reading a user BAR whose logic does not respond blocks until a
    /// timeout. For the same reason, on other cards BARs of the usual size are read first.
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

/// Returns the first BAR before the register BAR, as the kernel's `xdma` driver chooses it.
fn user_bar(bars: [u64; BARS], registers: usize) -> Option<usize> {
    (0..registers).find(|&bar| bars[bar] > 0)
}

fn explain(vendor: u16, candidates: &[usize], seen: &[(usize, [Identifier; 2])]) -> String {
    let mut text = match seen {
        [] => format!("none of BARs {candidates:?} exists and has at least 32 KiB"),
        _ => {
            let each = |(bar, ids): &(usize, [Identifier; 2])| {
                format!("BAR{bar} reads {:#010x} at 0x2000 and {:#010x} at 0x3000", ids[0].0, ids[1].0)
            };
            seen.iter().map(each).collect::<Vec<_>>().join(", ")
        }
    };
    text.push_str(", where XDMA reads 0x1fc2.... and 0x1fc3....; ");
    text.push_str(match vendor {
        AMAZON => "load an image whose shell includes XDMA (so far F2 shells do not)",
        _ => "load a design with XDMA, or set `register_bar` in the options",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_bar_precedes_the_register_bar() {
        assert_eq!(user_bar([32 << 20, 2 << 20, 64 << 10, 0, 1 << 37, 0], 2), Some(0));
        assert_eq!(user_bar([1 << 20, 64 << 10, 0, 0, 0, 0], 1), Some(0));
        assert_eq!(user_bar([64 << 10, 0, 1 << 30, 0, 0, 0], 0), None);
    }

    #[test]
    fn the_error_for_a_card_without_xdma_names_what_was_read() {
        let text = explain(AMAZON, &[2], &[(2, [Identifier(0), Identifier(1)])]);
        assert!(text.contains("BAR2 reads 0x00000000") && text.contains("F2"), "{text}");
        assert!(explain(0x10ee, &[], &[]).contains("none of BARs"));
    }
}
