//! Identifying the BARs of a card.

use super::capability::{self, MSIX};
use super::{CardError, CardOptions};
use crate::bus::{BARS, Bus};
use crate::regs::ids::Model;
use crate::regs::{GONE, IDENTIFIER, Identifier, REGISTER_SPACE, Target};

/// Amazon's PCI vendor ID.
const AMAZON: u16 = 0x1d0f;
/// The register BAR of Amazon's cards.
const AMAZON_REGISTER_BAR: usize = 2;
/// Offset of the register in the MSI-X capability that names the BAR of its table.
const MSIX_TABLE: u16 = 4;

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
    /// A read of a BAR may have side effects, and one whose logic does not respond blocks until a timeout. Therefore only these
    /// are read: the BAR that the options name, or else the BAR with the MSI-X table (every XDMA core with MSI-X has the table in
    /// its register BAR), or else the BAR that the PCI identifiers imply.
    pub fn find(bus: &dyn Bus, options: CardOptions) -> Result<Self, CardError> {
        let (vendor, device) = (bus.config_read(0, 2)? as u16, bus.config_read(2, 2)? as u16);
        if vendor == 0xffff {
            return Err(CardError::Gone { what: "config space" });
        }
        let bars = bus.description().bars;
        let mut seen = vec![];
        for bar in candidates(bus, (vendor, device), options)? {
            if !fits(bars, bar) || seen.iter().any(|&(known, _)| known == bar) {
                continue;
            }
            let ids = identifiers(bus, bar)?;
            if ids[0].is(Target::Irq, 0) && ids[1].is(Target::Config, 0) {
                if options.user_bar == Some(bar) {
                    return Err(CardError::UserBarHasRegisters(bar));
                }
                let user_bar = options.user_bar.or_else(|| user_bar(bars, bar));
                return Ok(Self { vendor, device, register_bar: bar, user_bar });
            }
            seen.push((bar, ids));
        }
        if !seen.is_empty() && seen.iter().all(|(_, ids)| ids.iter().all(|id| id.0 == GONE)) {
            // A BAR that the user named, and that does not answer, may be another one.
            let answers = options.register_bar.is_some() && bus.config_read(0, 2)? as u16 != 0xffff;
            if !answers {
                return Err(CardError::Gone { what: "the register BAR" });
            }
        }
        let reason = explain(vendor, bars, options.register_bar, &seen);
        Err(CardError::NotXdma { vendor, device, reason })
    }
}

/// Returns whether a BAR can hold the registers.
fn fits(bars: [u64; BARS], bar: usize) -> bool {
    bars.get(bar).is_some_and(|&size| size >= REGISTER_SPACE)
}

/// Returns the BARs to read, in order.
fn candidates(
    bus: &dyn Bus,
    (vendor, device): (u16, u16),
    options: CardOptions,
) -> Result<Vec<usize>, CardError> {
    if let Some(bar) = options.register_bar {
        return Ok(vec![bar]);
    }
    let mut found: Vec<usize> = msix_bar(bus)?.into_iter().collect();
    let bars = bus.description().bars;
    let fitting: Vec<usize> = (0..BARS).filter(|&bar| fits(bars, bar)).collect();
    match Model::of(vendor, device) {
        _ if vendor == AMAZON => found.push(AMAZON_REGISTER_BAR),
        Model::Card(_) if fitting.len() == 1 => found.push(fitting[0]),
        _ => {}
    }
    Ok(found)
}

/// Returns the BAR with the MSI-X table, if the function has the capability.
fn msix_bar(bus: &dyn Bus) -> Result<Option<usize>, CardError> {
    let Some(capability) = capability::find(bus, MSIX)? else { return Ok(None) };
    Ok(Some((bus.config_read(capability + MSIX_TABLE, 4)? & 7) as usize))
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

fn explain(
    vendor: u16,
    bars: [u64; BARS],
    named: Option<usize>,
    seen: &[(usize, [Identifier; 2])],
) -> String {
    let each = |(bar, ids): &(usize, [Identifier; 2])| {
        format!("BAR{bar} reads {:#010x} at 0x2000 and {:#010x} at 0x3000", ids[0].0, ids[1].0)
    };
    let read = seen.iter().map(each).collect::<Vec<_>>().join(", ");
    let unread = |&bar: &usize| fits(bars, bar) && !seen.iter().any(|&(known, _)| known == bar);
    let others: Vec<_> =
        (0..BARS).filter(unread).map(|bar| format!("BAR{bar} ({} KiB)", bars[bar] >> 10)).collect();
    let found = match (named, seen) {
        (Some(bar), []) => format!("BAR{bar} does not exist or has fewer than 32 KiB"),
        (None, []) => "no BAR is known to hold them".into(),
        _ => format!("{read}, where XDMA reads 0x1fc2.... and 0x1fc3...."),
    };
    match (vendor, others.as_slice()) {
        (AMAZON, _) if named.is_none() => {
            format!("{found}; load an image whose shell includes XDMA (so far F2 shells do not)")
        }
        (_, []) => format!("{found}; load a design with XDMA"),
        (_, others) => format!(
            "{found}; if the registers are in one of {}, which were not read because reads may have side effects, name the register \
             BAR (`register_bar` in the options, `--register-bar` of the tools)",
            others.join(", ")
        ),
    }
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
    fn the_error_for_a_card_without_xdma_names_what_was_read_and_what_was_not() {
        let ids = [Identifier(0), Identifier(1)];
        let text = explain(AMAZON, [0, 0, 64 << 10, 0, 0, 0], None, &[(2, ids)]);
        assert!(text.contains("BAR2 reads 0x00000000") && text.contains("F2"), "{text}");
        let text = explain(0x10ee, [64 << 10, 128 << 10, 4096, 0, 0, 0], None, &[]);
        assert!(text.contains("no BAR is known") && text.contains("BAR0 (64 KiB), BAR1 (128 KiB)"), "{text}");
        let text = explain(0x10ee, [64 << 10, 128 << 10, 4096, 0, 0, 0], None, &[(1, ids)]);
        assert!(text.contains("BAR1 reads") && text.contains("one of BAR0 (64 KiB), which"), "{text}");
        assert!(explain(0x10ee, [0; BARS], Some(3), &[]).contains("BAR3 does not exist"));
    }
}
