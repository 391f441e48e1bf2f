//! How a function can be reset, and which other functions the reset would affect.
//!
//! A function without its own reset method can be reset only together with everything behind the bridge above it (a hot reset).

use super::{Host, SetupError};
use std::fmt;
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::Function;

/// How a function can be reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reset {
    /// It can be reset alone, by these methods of the kernel, in the order in which the kernel tries them.
    Alone(Vec<String>),
    /// It can be reset only by a hot reset, which also affects these functions, each with its driver.
    WithOthers(Vec<(PciAddress, Option<String>)>),
    /// It cannot be reset: there is no method, and no bridge above it that could reset its bus.
    Impossible,
}

impl Reset {
    /// Determines how a function can be reset.
    ///
    /// # Errors
    ///
    /// Sysfs cannot be read.
    pub fn of(host: &Host, function: &Function) -> Result<Self, SetupError> {
        let methods = function.reset_methods()?;
        // Kernels before 5.15 do not name the methods.
        let unnamed = !function.directory().join("reset_method").exists();
        if !methods.is_empty() || unnamed && function.directory().join("reset").exists() {
            return Ok(Self::Alone(methods));
        }
        let all = host.sysfs().functions()?;
        let (domain, bus) = (function.address().domain, function.address().bus);
        let bridges = buses(host, domain, &all);
        // Above a root bus there is no bridge.
        if !bridges.iter().any(|bridge| bridge.secondary == bus) {
            return Ok(Self::Impossible);
        }
        let on_bus = bridges.iter().filter(|bridge| bridge.address.bus == bus);
        let mut reached = vec![bus..=bus];
        reached.extend(on_bus.map(|bridge| bridge.secondary..=bridge.subordinate));
        let mut others = Vec::new();
        for other in all.iter().filter(|other| other.address() != function.address()) {
            let address = other.address();
            if address.domain == domain && reached.iter().any(|buses| buses.contains(&address.bus)) {
                others.push((address, other.driver()?));
            }
        }
        Ok(Self::WithOthers(others))
    }

    /// Returns the other functions that a reset would affect.
    pub fn others(&self) -> Vec<String> {
        match self {
            Self::WithOthers(others) => others.iter().map(named).collect(),
            _ => Vec::new(),
        }
    }
}

fn named((address, driver): &(PciAddress, Option<String>)) -> String {
    match driver {
        Some(driver) => format!("{address} (driver {driver})"),
        None => format!("{address} (no driver)"),
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone(methods) if methods.is_empty() => f.write_str("by itself"),
            Self::Alone(methods) => write!(f, "by itself: {}", methods.join(", ")),
            Self::WithOthers(others) if others.is_empty() => {
                f.write_str("only by a hot reset of its bus, which has no other function")
            }
            Self::WithOthers(_) => {
                write!(f, "only by a hot reset of its bus, which would also hit {}", self.others().join(", "))
            }
            Self::Impossible => f.write_str("not possible: no method, and no bridge above its bus"),
        }
    }
}

/// A bridge with the range of buses behind it.
struct Bridge {
    address: PciAddress,
    secondary: u8,
    subordinate: u8,
}

/// Returns the bridges of a domain. Functions without the files of a bridge are skipped.
fn buses(host: &Host, domain: u32, all: &[Function]) -> Vec<Bridge> {
    let bridge = |function: &Function| {
        let address = function.address();
        let number = |name: &str| {
            let text = host.text(&format!("sys/bus/pci/devices/{address}/{name}")).ok()??;
            text.parse().ok()
        };
        let (secondary, subordinate) = (number("secondary_bus_number")?, number("subordinate_bus_number")?);
        // 0: the bridge is not configured.
        (address.domain == domain && secondary != 0).then_some(Bridge { address, secondary, subordinate })
    };
    all.iter().filter_map(bridge).collect()
}
