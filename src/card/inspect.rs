//! Reading registers by name.

use super::{Card, CardError};
use crate::bus::Bar;
use crate::regs::GONE;
use crate::regs::map::{Access, Block, Register, Space};
use std::sync::Arc;

/// A register and its value.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The register.
    pub register: &'static Register,
    /// Its index, if the register is repeated; otherwise 0.
    pub index: u32,
    /// Its offset in the BAR.
    pub address: u32,
    /// Its value; `None` if it was not read.
    pub value: Option<u64>,
}

pub(super) fn read_block(card: &Card, block: &Block, force: bool) -> Result<Vec<Reading>, CardError> {
    let bar = match block.space {
        Space::Xdma => card.registers(),
        Space::User => card.user()?.bar,
    };
    let mut readings = vec![];
    for register in block.registers {
        for index in 0..register.count {
            let address = block.base + register.offset + 4 * index;
            let value = match register.access {
                Access::Wo => None,
                Access::Rc if !force => None,
                _ => Some(value(&bar, register, address)?),
            };
            // The first register is an identifier, which never reads all ones.
            if readings.is_empty() && value == Some(GONE.into()) {
                return Err(CardError::Gone { what: "the first register of the block" });
            }
            readings.push(Reading { register, index, address, value });
        }
    }
    Ok(readings)
}

fn value(bar: &Arc<dyn Bar>, register: &Register, address: u32) -> Result<u64, CardError> {
    let low = bar.read32(address.into())?;
    let high = if register.pair { bar.read32(u64::from(address) + 4)? } else { 0 };
    Ok(u64::from(high) << 32 | u64::from(low))
}
