//! The descriptions that are part of this crate.

use super::CardFile;

/// The names of the descriptions that are part of this crate, and their files.
///
/// | name | card |
/// |---|---|
/// | `f1` | AWS F1: 4 + 4 channels, registers in BAR2, 33 MSI-X vectors |
/// | `alveo` | an endpoint as the vendor's module expects it: 4 + 4 channels, registers in BAR1, 32 vectors |
/// | `f2` | AWS F2 with an engine in the custom logic: 1 + 1 channels, registers in BAR0, interrupts through BAR2 |
/// | `msi` | 1 + 1 channels, registers in BAR0, no user BAR, MSI only |
/// | `eight-vectors` | 1 + 1 channels, registers in BAR1, eight MSI-X vectors |
/// | `7-series` | 1 + 1 channels on a 64-bit path, Gen2 x4 |
/// | `streams` | 2 + 2 stream channels on a 128-bit path |
/// | `c2h-only` | 0 + 4 channels |
/// | `three-and-one` | 3 + 1 channels |
pub const SHIPPED: [(&str, &str); 9] = [
    ("f1", include_str!("../cards/f1.toml")),
    ("alveo", include_str!("../cards/alveo.toml")),
    ("f2", include_str!("../cards/f2.toml")),
    ("msi", include_str!("../cards/msi.toml")),
    ("eight-vectors", include_str!("../cards/eight-vectors.toml")),
    ("7-series", include_str!("../cards/7-series.toml")),
    ("streams", include_str!("../cards/streams.toml")),
    ("c2h-only", include_str!("../cards/c2h-only.toml")),
    ("three-and-one", include_str!("../cards/three-and-one.toml")),
];

pub fn find(name: &str) -> Option<CardFile> {
    let (_, text) = SHIPPED.iter().find(|(known, _)| *known == name)?;
    Some(parse(text))
}

pub fn parse(text: &str) -> CardFile {
    text.parse().expect("a test parses all shipped descriptions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_descriptions_are_valid_and_written_as_they_are_read() {
        for (name, text) in SHIPPED {
            let card: CardFile = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(card.to_toml().parse::<CardFile>().unwrap(), card, "{name}");
            assert!(!card.notes.is_empty(), "{name} names no source");
            assert_eq!(CardFile::shipped(name), Some(card));
        }
        assert_eq!(CardFile::shipped("f3"), None);
    }
}
