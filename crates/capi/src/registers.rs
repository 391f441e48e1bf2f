//! Registers by name, for diagnosis.

use crate::card::{CARDS, xdma_card};
use crate::error::{Failure, run};
use crate::pointers::{self, Out, invalid};
use crate::status::xdma_status;
use std::ffi::c_char;
use std::fmt;
use xdma::card::{Card, Reading};
use xdma::msm::Design;
use xdma::regs::Direction;
use xdma::regs::map::{Access, Block, Field, Space};

/// Reads a block of a card, without the registers that are write-only.
fn read(card: &Card, name: &str) -> Result<(Block, Vec<Reading>), Failure> {
    let report = card.report()?;
    let mut blocks = Block::of_core(report.count(Direction::H2C), report.count(Direction::C2H));
    blocks.push(Block::msm());
    let Some(at) = blocks.iter().position(|block| block.name.eq_ignore_ascii_case(name)) else {
        let names: Vec<_> = blocks.iter().map(|block| block.name.as_str()).collect();
        return Err(invalid(format_args!("the card has no block `{name}`; use one of {}", names.join(", "))));
    };
    let block = blocks.swap_remove(at);
    if block.space == Space::User {
        // Fails if the card has another design, which has other registers.
        Design::of(card)?;
    }
    let mut readings = card.read_block(&block, false)?;
    readings.retain(|reading| reading.register.access != Access::Wo);
    Ok((block, readings))
}

/// Returns the name of a register, in lower case. Those of an array have a number.
fn name(reading: &Reading) -> String {
    let name = reading.register.name.to_lowercase();
    if reading.register.count > 1 { format!("{name}[{}]", reading.index) } else { name }
}

/// A block as text, one register a line.
struct Listing(Block, Vec<Reading>);

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bar = if self.0.space == Space::Xdma { "XDMA" } else { "user" };
        write!(f, "{} at {:#06x} in the {bar} BAR", self.0.name, self.0.base)?;
        for reading in &self.1 {
            write!(f, "\n{:#06x} {:4} {:21} ", reading.address, reading.register.access, name(reading))?;
            let Some(value) = reading.value else {
                f.write_str("not read, because reading clears it")?;
                continue;
            };
            write!(f, "{value:#010x}")?;
            let fields = reading.register.fields.iter().map(|field| (field, field.of(value as u32)));
            for (Field { name, flag, .. }, value) in
                fields.filter(|(field, value)| !field.flag || *value != 0)
            {
                match flag {
                    true => write!(f, " {}", name.to_lowercase())?,
                    false => write!(f, " {}={value}", name.to_lowercase())?,
                }
            }
        }
        Ok(())
    }
}

/// Reads a register of the XDMA core, or of the MSM design, by its name, into `value`.
///
/// `block` is one of h2c0 to h2c3, c2h0 to c2h3, irq, config, h2c0_sgdma to c2h3_sgdma, sgdma_common and msm; `name` is the name of the
/// register in that block, such as `status`, or `channel_vectors[1]` for an element of an array. xdma_registers_describe lists them; the
/// case of letters does not matter. The call reads the whole block. Numbers of 64 bits are read as one register.
///
/// Any thread may call this, also while channels are in use.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_ARGUMENT if there is no such block or register, or if reading the
/// register would clear it; XDMA_ERROR_UNSUPPORTED for msm if the card's logic is not that design; XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_register_read(
    card: *mut xdma_card,
    block: *const c_char,
    name: *const c_char,
    value: *mut u64,
) -> xdma_status {
    run(|| {
        let (out, card) = (Out::new(value)?, CARDS.get(card)?);
        // SAFETY: the caller passes NULL or valid pointers.
        let (block, wanted) = unsafe {
            (pointers::text(block, "the block's name")?, pointers::text(name, "the register's name")?)
        };
        let (block, readings) = read(&card.card, block)?;
        let found = readings.iter().find(|reading| self::name(reading).eq_ignore_ascii_case(wanted));
        let value = match found.map(|reading| reading.value) {
            Some(Some(value)) => value,
            Some(None) => {
                return Err(invalid(format_args!(
                    "reading `{wanted}` would clear it; read another register"
                )));
            }
            None => {
                let names: Vec<_> = readings.iter().map(self::name).collect();
                return Err(invalid(format_args!(
                    "block {} has no register `{wanted}` that can be read; use one of {}",
                    block.name,
                    names.join(", ")
                )));
            }
        };
        // SAFETY: as above.
        unsafe { out.put(value) }
    })
}

/// Describes all registers of a block, with their fields, as text, stored as by xdma_card_describe. `block` is as for xdma_register_read.
///
/// Registers that are cleared by reading are not read. Any thread may call this, also while channels are in use. Errors: as
/// xdma_register_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_registers_describe(
    card: *mut xdma_card,
    block: *const c_char,
    text: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> xdma_status {
    run(|| {
        let card = CARDS.get(card)?;
        // SAFETY: the caller passes NULL or valid pointers.
        let (block, readings) = read(&card.card, unsafe { pointers::text(block, "the block's name")? })?;
        // SAFETY: as above.
        unsafe { pointers::store_text(&Listing(block, readings), text, capacity, length) }
    })
}
