//! Numbers in a file: identifiers in hexadecimal, and sizes with a unit.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Defines a module for `serde(with)` that writes hexadecimal numbers of at least `$digits` digits.
macro_rules! hex {
    ($name:ident, $digits:literal) => {
        pub mod $name {
            use super::{Deserializer, Serializer, number};

            pub fn serialize<S: Serializer>(
                value: &(impl std::fmt::LowerHex + Copy),
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&format_args!(concat!("0x{:0", $digits, "x}"), value))
            }

            pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
                deserializer: D,
            ) -> Result<T, D::Error> {
                number(deserializer)
            }
        }
    };
}

hex!(hex4, 4);
hex!(hex6, 6);
hex!(hex8, 8);

/// Sizes in bytes, with a unit.
pub mod size {
    use super::{Deserializer, Serializer, number};

    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        let fits = |&&(shift, _): &&(u32, &str)| *bytes > 0 && bytes.trailing_zeros() >= shift;
        match units.iter().find(fits) {
            Some((shift, unit)) => serializer.collect_str(&format_args!("{}{unit}", bytes >> shift)),
            None => serializer.collect_str(bytes),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        number(deserializer)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(#[serde(with = "size")] pub u64);

fn number<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    let value = deserializer.deserialize_any(NumberVisitor)?;
    T::try_from(value).map_err(|_| Error::custom(format!("the number {value:#x} is too large")))
}

/// Parses `4096`, `0x1000`, `4K`.
fn parse(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(digits) => (digits, 10 * (1 + "KMGT".find(text.chars().next_back()?)? as u32)),
        None => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number such as 4096, \"0x1000\" or \"4K\"")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| Error::custom("the number is negative"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        parse(text).ok_or_else(|| {
            Error::custom(format!("{text:?} is not a number such as 4096, \"0x1000\" or \"4K\""))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_forms() {
        for (text, value) in [("4096", 4096), ("0x1000", 4096), ("4K", 4096), ("1T", 1 << 40), ("0", 0)] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in ["", "K", "0x", "-1", "4k", "4 K", "1.5M", "18446744073709551615K", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
