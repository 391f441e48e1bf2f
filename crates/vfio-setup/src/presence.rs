//! Whether a function still answers as the kernel describes it.
//!
//! Most files of a function in sysfs show what the kernel read when the function appeared. They do not change when the FPGA is
//! configured again or its link goes down. Only the file `config` is read from the device.

use super::{Host, SetupError, advice};
use std::fmt;
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::Function;

/// Size of the standard header of the configuration space, which all users may read.
const HEADER: usize = 64;

/// How a function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It answers as the kernel describes it, or whether it does is unknown.
    Present,
    /// It does not answer: its registers read all ones.
    Gone,
    /// It answers with PCI IDs other than those that the kernel found.
    Replaced {
        /// The vendor ID that it reports.
        vendor: u16,
        /// The device ID that it reports.
        device: u16,
    },
    /// Its BARs have no addresses, although the kernel assigned some: it was reset or configured without the kernel's knowledge.
    Reset,
}

impl Presence {
    /// Reads the beginning of the configuration space of a function.
    ///
    /// # Errors
    ///
    /// A file of the host cannot be read.
    pub fn of(host: &Host, function: &Function) -> Result<Self, SetupError> {
        let directory = format!("sys/bus/pci/devices/{}", function.address());
        // A virtual function reports all ones as its IDs, as the specification requires.
        if host.path(&format!("{directory}/physfn")).exists() {
            return Ok(Self::Present);
        }
        let header = host.beginning(&format!("{directory}/config"), HEADER)?;
        let Ok(header) = <[u8; HEADER]>::try_from(header) else { return Ok(Self::Present) };
        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let (vendor, device) = (word(0), word(2));
        if (vendor, device) == (u16::MAX, u16::MAX) {
            return Ok(Self::Gone);
        }
        if (vendor, device) != (function.vendor()?, function.device()?) {
            return Ok(Self::Replaced { vendor, device });
        }
        let is_endpoint = header[14] & 0x7f == 0;
        if is_endpoint && !has_addresses(&header) && was_assigned(host, &directory)? {
            return Ok(Self::Reset);
        }
        Ok(Self::Present)
    }

    /// Returns the remedy for a function that does not answer as expected.
    pub fn remedy(self, address: PciAddress) -> Option<String> {
        let rescan = advice::rescan(address);
        match self {
            Self::Present => None,
            _ => Some(format!(
                "{rescan}   # end the programs that use the card first; if it does not come back, load its image, or reboot with the image in flash"
            )),
        }
    }
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("it answers"),
            Self::Gone => f.write_str(
                "its configuration space reads ff: the card lost its image or its link, and the kernel still shows its earlier state",
            ),
            Self::Replaced { vendor, device } => write!(
                f,
                "it reports the PCI IDs {vendor:04x}:{device:04x}, which the kernel has not seen: another image was loaded without a rescan"
            ),
            Self::Reset => f.write_str(
                "its BARs have lost their addresses: an image was loaded, or the card was reset, without a rescan",
            ),
        }
    }
}

/// Returns whether any of the BARs has an address.
fn has_addresses(header: &[u8; HEADER]) -> bool {
    let bars = header[0x10..0x28].chunks_exact(4);
    // The low four bits of a memory BAR describe its type.
    bars.into_iter().any(|bar| u32::from_le_bytes([bar[0], bar[1], bar[2], bar[3]]) & !0xf != 0)
}

/// Returns whether the kernel has assigned an address to any BAR.
fn was_assigned(host: &Host, directory: &str) -> Result<bool, SetupError> {
    const MEMORY: u64 = 0x200; // IORESOURCE_MEM
    let text = host.text(&format!("{directory}/resource"))?.unwrap_or_default();
    let assigned = |line: &str| {
        let mut numbers = line.split(' ').map(|n| u64::from_str_radix(n.strip_prefix("0x")?, 16).ok());
        let (start, flags) = (numbers.next()??, numbers.nth(1)??);
        Some(start != 0 && flags & MEMORY != 0)
    };
    Ok(text.lines().take(6).any(|line| assigned(line) == Some(true)))
}
