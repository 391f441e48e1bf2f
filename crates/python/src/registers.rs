//! Registers: those of the core and of the MSM design by name and field, those of the user logic by offset.

use crate::card::{self, Card};
use crate::errors::{Failure, invalid};
use pyo3::exceptions::{PyAttributeError, PyKeyError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::sync::Arc;
use xdma::msm::Design;
use xdma::regs::map::{Access, Block, Register, Space};
use xdma::regs::{Direction, GONE};

/// The registers of a card by name, such as card.registers["h2c0.control"]: a mapping from names to RegisterValue objects. Iterating
/// lists all names.
///
/// The blocks are h2c0, c2h0, h2c0_sgdma, c2h0_sgdma and so on, irq, config, sgdma_common, and msm if the card has the MSM design. Register
/// names are those of the manual (PG195) in lower case; repeated registers have an index, as in "irq.user_vectors[2]".
#[pyclass(frozen, mapping, module = "xdma")]
pub struct Registers {
    card: Arc<card::Inner>,
    blocks: Vec<Block>,
}

/// The value of a register when it was read. Its fields are attributes with the names of the manual in lower case: flags are bool, numbers
/// are int.
#[pyclass(frozen, module = "xdma")]
pub struct RegisterValue {
    name: String,
    address: u32,
    value: u64,
    register: &'static Register,
}

/// A register in its block.
struct Place<'a> {
    block: &'a Block,
    register: &'static Register,
    index: u32,
}

impl Place<'_> {
    fn address(&self) -> u32 {
        self.block.base + self.register.offset + 4 * self.index
    }
}

fn name(block: &Block, register: &Register, index: u32) -> String {
    let name = format!("{}.{}", block.name, register.name.to_lowercase());
    if register.count > 1 { format!("{name}[{index}]") } else { name }
}

impl Registers {
    pub fn of(py: Python<'_>, card: &Card) -> Result<Self, Failure> {
        let inner = card.inner().clone();
        let blocks = inner.slot.with(py, |card| {
            let report = card.report()?;
            let mut blocks = Block::of_core(report.count(Direction::H2C), report.count(Direction::C2H));
            if Design::of(card).is_ok() {
                blocks.push(Block::msm());
            }
            Ok(blocks)
        })?;
        Ok(Self { card: inner, blocks })
    }

    fn names(&self) -> Vec<String> {
        let each = |block: &Block| -> Vec<String> {
            let indices = block
                .registers
                .iter()
                .flat_map(|register| (0..register.count).map(move |index| (register, index)));
            indices.map(|(register, index)| name(block, register, index)).collect()
        };
        self.blocks.iter().flat_map(each).collect()
    }

    fn find(&self, wanted: &str) -> Result<Place<'_>, Failure> {
        let block = wanted.split_once('.').map_or(wanted, |(block, _)| block);
        let Some(block) = self.blocks.iter().find(|known| known.name == block) else {
            let known: Vec<_> = self.blocks.iter().map(|block| block.name.as_str()).collect();
            let text =
                format!("{wanted:?}: this card has no such block; its blocks are {}", known.join(", "));
            return Err(PyKeyError::new_err(text).into());
        };
        for register in block.registers {
            for index in 0..register.count {
                if name(block, register, index) == wanted {
                    return Ok(Place { block, register, index });
                }
            }
        }
        let text = format!("{wanted:?}: no such register; list(card.registers) has all names");
        Err(PyKeyError::new_err(text).into())
    }
}

/// Reads a register, in two words if it is a pair. After a value of all ones, checks that the card is not gone.
fn read(card: &xdma::card::Card, place: &Place<'_>) -> Result<u64, Failure> {
    let address = place.address();
    let word = |address: u32| match place.block.space {
        Space::Xdma => xdma::unstable::card::registers(card).read32(address.into()),
        Space::User => Ok(card.user().map_err(|_| xdma::card::BusError::NoBar(0))?.read(address)?),
    };
    let low = word(address)?;
    let high = if place.register.pair { word(address + 4)? } else { 0 };
    if low == GONE {
        // This fails if the card is gone.
        card.read_block(place.block, false)?;
    }
    Ok(u64::from(high) << 32 | u64::from(low))
}

#[pymethods]
impl Registers {
    fn __getitem__(&self, py: Python<'_>, name: &str) -> Result<RegisterValue, Failure> {
        self.read(py, name, false)
    }

    /// Reads a register. With force, registers that reading clears, such as "h2c0.status_rc", can be read; their value is then lost to
    /// other readers.
    ///
    /// Raises KeyError for an unknown name; ArgumentError for a register that cannot be read, or only with force; GoneError.
    #[pyo3(signature = (name, *, force=false))]
    fn read(&self, py: Python<'_>, name: &str, force: bool) -> Result<RegisterValue, Failure> {
        let place = self.find(name)?;
        match place.register.access {
            Access::Wo => {
                return Err(invalid(format!(
                    "{name} cannot be read: writing it sets or clears bits of another register"
                )));
            }
            Access::Rc if !force => {
                return Err(invalid(format!("reading {name} clears it; use read({name:?}, force=True)")));
            }
            _ => {}
        }
        let value = self.card.slot.with(py, |card| read(card, &place))?;
        Ok(RegisterValue { name: name.into(), address: place.address(), value, register: place.register })
    }

    /// Writes a register of the MSM design. Registers of the core belong to the driver, and cannot be written.
    fn __setitem__(&self, py: Python<'_>, name: &str, value: u32) -> Result<(), Failure> {
        let place = self.find(name)?;
        if place.block.space != Space::User {
            return Err(invalid(format!(
                "{name} belongs to the driver, which writes it; use the methods of Channel and Card"
            )));
        }
        if place.register.access == Access::Ro {
            return Err(invalid(format!("{name} is read-only")));
        }
        let address = place.address();
        self.card.slot.with(py, |card| Ok(card.user()?.write(address, value)?))
    }

    fn __contains__(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    fn __len__(&self) -> usize {
        self.names().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>, Failure> {
        Ok(PyList::new(py, self.names())?.try_iter()?.into_any())
    }

    fn __repr__(&self) -> String {
        let blocks: Vec<_> = self.blocks.iter().map(|block| block.name.as_str()).collect();
        format!("<xdma.Registers of {}>", blocks.join(", "))
    }
}

impl RegisterValue {
    fn field<'py>(&self, py: Python<'py>, field: &xdma::regs::map::Field) -> PyResult<Bound<'py, PyAny>> {
        let value = field.of(self.value as u32);
        if field.flag && field.mask.is_power_of_two() {
            Ok((value != 0).into_pyobject(py)?.to_owned().into_any())
        } else {
            Ok(value.into_pyobject(py)?.into_any())
        }
    }
}

#[pymethods]
impl RegisterValue {
    /// Its name, such as "h2c0.control".
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Its byte offset in the BAR.
    #[getter]
    fn address(&self) -> u32 {
        self.address
    }

    /// Its value.
    #[getter]
    fn value(&self) -> u64 {
        self.value
    }

    /// Its access type: "RO", "RW", "RW1C" (writing 1 clears a bit) or "RC" (reading clears it).
    #[getter]
    fn access(&self) -> String {
        self.register.access.to_string()
    }

    /// Its fields by name.
    #[getter]
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let fields = PyDict::new(py);
        for field in self.register.fields {
            fields.set_item(field.name.to_lowercase(), self.field(py, field)?)?;
        }
        Ok(fields)
    }

    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        match self.register.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)) {
            Some(field) => self.field(py, field),
            None => {
                let names: Vec<_> =
                    self.register.fields.iter().map(|field| field.name.to_lowercase()).collect();
                let text =
                    format!("{} has no field {name:?}; its fields are: {}", self.name, names.join(", "));
                Err(PyAttributeError::new_err(text))
            }
        }
    }

    fn __int__(&self) -> u64 {
        self.value
    }

    fn __index__(&self) -> u64 {
        self.value
    }

    fn __repr__(&self) -> String {
        let fields =
            self.register.fields.iter().filter(|field| !field.flag || field.of(self.value as u32) != 0);
        let fields =
            fields.map(|field| format!(" {}={}", field.name.to_lowercase(), field.of(self.value as u32)));
        format!("<xdma.RegisterValue {} {:#x}{}>", self.name, self.value, fields.collect::<String>())
    }
}

/// The registers of the user logic: 32 bits each, addressed by byte offset, a multiple of 4. Card.user returns them.
#[pyclass(frozen, module = "xdma")]
pub struct UserRegisters {
    card: Arc<card::Inner>,
}

impl UserRegisters {
    pub fn of(py: Python<'_>, card: &Card) -> Result<Self, Failure> {
        let card = card.inner().clone();
        drop(card.slot.lock(py)?.user()?);
        Ok(Self { card })
    }
}

#[pymethods]
impl UserRegisters {
    /// Size of the range of these registers in bytes.
    #[getter]
    fn size(&self, py: Python<'_>) -> Result<u64, Failure> {
        Ok(self.card.slot.lock(py)?.user()?.size())
    }

    /// Reads a register. This is a round trip to the card. All ones may mean that the card is gone.
    ///
    /// Raises ArgumentError for an offset that is not aligned or outside of the range, and GoneError.
    fn read(&self, py: Python<'_>, offset: u32) -> Result<u32, Failure> {
        self.card.slot.with(py, |card| Ok(card.user()?.read(offset)?))
    }

    /// Writes a register. The write is posted: it returns before the card has received it. Raises as read.
    fn write(&self, py: Python<'_>, offset: u32, value: u32) -> Result<(), Failure> {
        self.card.slot.with(py, |card| Ok(card.user()?.write(offset, value)?))
    }

    fn __repr__(&self) -> &'static str {
        "<xdma.UserRegisters>"
    }
}
