//! Numbers as people type and read them.

use std::num::IntErrorKind;
use std::time::Duration;

/// `4096`, `0x1000`, `4K`, `1M`, `2G`; an underscore may stand between digits.
pub fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no number: write 4096, 0x1000, or 4K, 1M, 2G for powers of 1024");
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let digits = digits.replace('_', "");
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let value = match value {
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => None,
        Ok(value) if !digits.contains('+') => value.checked_mul(1 << shift),
        _ => return Err(bad()),
    };
    value.ok_or_else(|| format!("`{text}` has more than 64 bits"))
}

/// As [`parse`], of 32 bits.
pub fn parse32(text: &str) -> Result<u32, String> {
    parse(text)?.try_into().map_err(|_| format!("`{text}` has more than 32 bits"))
}

/// A time on the command line.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().filter(|time: &f64| (0.001..=1e6).contains(time));
    let time =
        time.ok_or_else(|| format!("`{text}` is no number of seconds from 0.001 to 1000000, such as 0.5"))?;
    Ok(Duration::from_secs_f64(time))
}

/// `96.0 MiB`, `512 bytes`.
pub fn bytes(value: u64) -> String {
    match value {
        1 => "1 byte".into(),
        0..1024 => format!("{value} bytes"),
        _ => indicatif::BinaryBytes(value).to_string().replace(".00", ""),
    }
}

/// `950 ns`, `12.3 µs`, `4.56 ms`: three digits.
pub fn nanoseconds(value: u64) -> String {
    let (scaled, unit) = match value {
        0..1_000 => return format!("{value} ns"),
        1_000..1_000_000 => (value as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (value as f64 / 1e6, "ms"),
        _ => (value as f64 / 1e9, "s"),
    };
    format!("{} {unit}", digits(scaled))
}

/// `0.95 MB/s`, `12.3 MB/s`, `4.56 GB/s`: three digits, powers of 1000.
pub fn rate(bytes_per_second: f64) -> String {
    match bytes_per_second {
        giga if giga >= 999.5e6 => format!("{} GB/s", digits(giga / 1e9)),
        mega => format!("{} MB/s", digits(mega / 1e6)),
    }
}

/// `12.3`, `1.23 k`, `5.00 M`: three digits, powers of 1000.
pub fn short(value: f64) -> String {
    match value {
        ..999.5 => digits(value),
        ..999.5e3 => format!("{} k", digits(value / 1e3)),
        ..999.5e6 => format!("{} M", digits(value / 1e6)),
        _ => format!("{} G", digits(value / 1e9)),
    }
}

/// Three of them.
fn digits(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("0x5000_0000"), Ok(0x5000_0000));
        assert_eq!((parse("64K"), parse("1m"), parse("0x2G")), (Ok(65536), Ok(1 << 20), Ok(2 << 30)));
        for bad in ["", "K", "0x", "1.5M", "-1", "+1", "0x+1", "ä", "1ä"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse32("0xffffffff"), Ok(u32::MAX));
        for large in ["17179869184G", "0x10000000000000000", "99999999999999999999"] {
            assert!(parse(large).unwrap_err().contains("64 bits"), "{large}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(["0", "-1", "NaN", "1e9", "1e19", "inf", "x"].iter().all(|text| seconds(text).is_err()));
        assert!(parse32("4G").unwrap_err().contains("32 bits"));
        assert_eq!(
            [950, 1_000, 12_345, 4_560_000, 1 << 32].map(nanoseconds),
            ["950 ns", "1.00 µs", "12.3 µs", "4.56 ms", "4.29 s"]
        );
        assert_eq!(
            [0.0, 12.34, 1234.0, 5e6, 2.5e9].map(short),
            ["0.00", "12.3", "1.23 k", "5.00 M", "2.50 G"]
        );
        assert_eq!([1e5, 12.34e6, 4.56e9].map(rate), ["0.10 MB/s", "12.3 MB/s", "4.56 GB/s"]);
        assert_eq!(
            (bytes(1), bytes(513), bytes(1 << 20)),
            ("1 byte".into(), "513 bytes".into(), "1 MiB".into())
        );
    }
}
