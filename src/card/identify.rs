//! Identifying the BARs of a card.

use super::aws::{self, ENGINE_BAR, SHELL_BAR};
use super::capability::{self, MSIX};
use super::interrupts::USER_LINES;
use super::{CardError, CardOptions};
use crate::bus::{BARS, Bar, Bus, BusError};
use crate::regs::ids::{AMAZON, Model};
use crate::regs::{GONE, IDENTIFIER, Identifier, REGISTER_SPACE, Target};

/// The register BAR of Amazon's cards.
const AMAZON_REGISTER_BAR: usize = 2;
/// Offset of the register in the MSI-X capability that names the BAR of its table.
const MSIX_TABLE: u16 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub vendor: u16,
    pub device: u16,
    pub register_bar: usize,
    pub user: Option<UserRegisters>,
    /// The BAR with the interrupt block of AWS's F2 shell.
    pub interrupt_bar: Option<usize>,
}

/// Where the user logic's registers are: in a BAR, from an offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UserRegisters {
    pub bar: usize,
    pub offset: u64,
}

impl Layout {
    /// Finds the BAR with the XDMA registers.
    ///
    /// A read of a BAR may have side effects, and one whose logic does not respond blocks until a timeout. Therefore only these
    /// are read: the BAR that the options name, or else the BAR with the MSI-X table (every XDMA core with MSI-X has the table in
    /// its register BAR), or else the BAR that the PCI identifiers imply. On F2, which is recognized by its BARs, only BAR0 can
    /// hold an engine; BAR2 is read for the shell's interrupt block, and for the error message.
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
            let ids = identifiers(&*bus.bar(bar)?)?;
            let only_interrupts = aws::is_f2(bars) && options.register_bar.is_none() && bar != ENGINE_BAR;
            if is_xdma(ids) && !only_interrupts {
                let user = find_user(bus, bar, options.user_bar)?;
                let f2 =
                    aws::is_f2(bars) && bar == ENGINE_BAR && is_xdma(identifiers(&*bus.bar(SHELL_BAR)?)?);
                let interrupt_bar = f2.then_some(SHELL_BAR);
                return Ok(Self { vendor, device, register_bar: bar, user, interrupt_bar });
            }
            seen.push((bar, ids));
        }
        let is_gone = |(_, ids): &(usize, [Identifier; 2])| ids.iter().all(|id| id.0 == GONE);
        let has_link = || Ok::<_, BusError>(bus.config_read(0, 2)? as u16 != 0xffff);
        if aws::is_f2(bars) && seen.iter().any(|bar| bar.0 == ENGINE_BAR && is_gone(bar)) && has_link()? {
            return Err(CardError::ShellTimeout);
        }
        if !seen.is_empty() && seen.iter().all(is_gone) {
            // If a BAR that the user named does not answer, it may be the wrong one.
            let answers = options.register_bar.is_some() && has_link()?;
            if !answers {
                return Err(CardError::Gone { what: "the register BAR" });
            }
        }
        let reason = explain((vendor, device), bars, options.register_bar, &seen);
        Err(CardError::NotXdma { vendor, device, reason })
    }
}

impl Layout {
    /// Returns how many lines of the user logic have an interrupt on a card with this number of channels.
    pub fn user_lines(&self, channels: usize) -> usize {
        match self.interrupt_bar {
            Some(_) => aws::LINES.saturating_sub(channels),
            None => USER_LINES,
        }
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
    let bars = bus.description().bars;
    if aws::is_f2(bars) {
        return Ok(vec![ENGINE_BAR, SHELL_BAR]);
    }
    let mut found: Vec<usize> = msix_bar(bus)?.into_iter().collect();
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

/// Returns the identifiers of the interrupt and the configuration block.
pub(super) fn identifiers(bar: &dyn Bar) -> Result<[Identifier; 2], BusError> {
    let read = |target: Target| bar.read32((target.base(0) + IDENTIFIER).into()).map(Identifier);
    Ok([read(Target::Irq)?, read(Target::Config)?])
}

/// Returns whether these are the identifiers of XDMA.
pub(super) fn is_xdma(ids: [Identifier; 2]) -> bool {
    ids[0].is(Target::Irq, 0) && ids[1].is(Target::Config, 0)
}

/// Returns where the user logic's registers are: in the BAR that the options name, after the engine's on F2, or else in the first
/// BAR before the register BAR, as the kernel's `xdma` driver chooses it. These are never the registers of an engine.
fn find_user(
    bus: &dyn Bus,
    registers: usize,
    named: Option<usize>,
) -> Result<Option<UserRegisters>, CardError> {
    let bars = bus.description().bars;
    let f2 = aws::is_f2(bars);
    if f2 && registers == ENGINE_BAR && named.is_none() {
        return Ok(Some(UserRegisters { bar: ENGINE_BAR, offset: aws::USER_OFFSET }));
    }
    let Some(bar) = named.or_else(|| user_bar(bars, registers)) else { return Ok(None) };
    // F2 has two BARs that can hold registers of XDMA.
    let may_hold = f2 && (bar == ENGINE_BAR || bar == SHELL_BAR);
    if bar == registers || may_hold && is_xdma(identifiers(&*bus.bar(bar)?)?) {
        return Err(CardError::UserBarHasRegisters(bar));
    }
    Ok(Some(UserRegisters { bar, offset: 0 }))
}

fn user_bar(bars: [u64; BARS], registers: usize) -> Option<usize> {
    (0..registers).find(|&bar| bars[bar] > 0)
}

fn explain(
    (vendor, device): (u16, u16),
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
    let image = "use `fpga-load-local-image` to load an image";
    match (vendor, others.as_slice()) {
        (AMAZON, _) if Model::of(vendor, device) == Model::NoImage => {
            format!("the FPGA has no image; {image}, and rescan the PCI bus")
        }
        _ if Model::of(vendor, device) == Model::Management => {
            "this is the management function of an AWS F2 card; the card is function 0 at the same address"
                .into()
        }
        _ if named.is_none() && aws::is_f2(bars) => format!(
            "this is an AWS F2 card, and {found}. The XDMA block in BAR2 of F2's shell only delivers interrupts, so the custom logic \
             must have a DMA engine, with its registers at the start of BAR0; {image} that has one (hdl/f2 in the sources of `xdma`). If \
             the shell's XDMA core moves data, name BAR2 as the register BAR (`register_bar` in the options, `--register-bar` of the tools)"
        ),
        (AMAZON, _) if named.is_none() => format!("{found}; {image} whose shell includes XDMA"),
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
        let text = explain((AMAZON, 0xf001), [0, 0, 64 << 10, 0, 0, 0], None, &[(2, ids)]);
        assert!(text.contains("BAR2 reads 0x00000000") && text.contains("shell includes XDMA"), "{text}");
        let text = explain((0x10ee, 0x903f), [64 << 10, 128 << 10, 4096, 0, 0, 0], None, &[]);
        assert!(text.contains("no BAR is known") && text.contains("BAR0 (64 KiB), BAR1 (128 KiB)"), "{text}");
        let text = explain((0x10ee, 0x903f), [64 << 10, 128 << 10, 4096, 0, 0, 0], None, &[(1, ids)]);
        assert!(text.contains("BAR1 reads") && text.contains("one of BAR0 (64 KiB), which"), "{text}");
        assert!(explain((0x10ee, 0x903f), [0; BARS], Some(3), &[]).contains("BAR3 does not exist"));
    }
}
