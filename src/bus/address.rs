//! Addresses of PCI functions.

use std::fmt;
use std::str::FromStr;

/// Address of a PCI function, as `lspci -D` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// Domain. Those above ffff belong to functions behind Intel VMD.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

/// The text is not a PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a PCI address; write it as `lspci -D` prints it: 0000:00:1d.0, or 00:1d.0 in domain 0")]
pub struct BadAddress(pub String);

impl PciAddress {
    /// Returns whether the function is behind an Intel Volume Management Device (VMD), which remaps the functions behind it into a
    /// domain of their own. They have no IOMMU group of their own.
    pub fn is_behind_vmd(&self) -> bool {
        self.domain > 0xffff
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = BadAddress;

    /// Parses `0000:00:1d.0`, or `00:1d.0` in domain 0. Digits are hexadecimal.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        parse(text).ok_or_else(|| BadAddress(text.into()))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let hex = |part: &str, most: u32| {
        let plain = !part.is_empty() && part.len() <= 8 && part.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| u32::from_str_radix(part, 16).ok()).flatten().filter(|&n| n <= most)
    };
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let (device, bus, domain) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    if parts.next().is_some() {
        return None;
    }
    Some(PciAddress {
        domain: hex(domain, u32::MAX)?,
        bus: hex(bus, 0xff)? as u8,
        device: hex(device, 0x1f)? as u8,
        function: hex(function, 7)? as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn valid_addresses_are_parsed_and_others_refused() {
        let pci = |domain, bus, device, function| PciAddress { domain, bus, device, function };
        assert_eq!("0000:00:1d.0".parse::<PciAddress>().unwrap(), pci(0, 0, 0x1d, 0));
        assert_eq!("af:1f.7".parse::<PciAddress>().unwrap(), pci(0, 0xaf, 0x1f, 7));
        let vmd: PciAddress = "10000:e1:00.0".parse().unwrap();
        assert_eq!((vmd, vmd.to_string()), (pci(0x1_0000, 0xe1, 0, 0), "10000:e1:00.0".into()));
        assert!(vmd.is_behind_vmd() && !pci(0xffff, 0, 0, 0).is_behind_vmd());
        for bad in [
            "",
            "0:0:0:0.0",
            "00:20.0",
            "00:1d.8",
            "00:1d",
            "+0:1d.0",
            "1:00000000a:00.0",
            "100000000:00:00.0",
            ":.",
            "../.0",
        ] {
            let error = bad.parse::<PciAddress>().unwrap_err().to_string();
            assert!(error.contains("lspci"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn addresses_survive_a_round_trip(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = PciAddress { domain, bus, device, function };
            prop_assert_eq!(address.to_string().parse::<PciAddress>().unwrap(), address);
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = text.parse::<PciAddress>();
        }
    }
}
