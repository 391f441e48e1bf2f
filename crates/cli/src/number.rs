//! Parsing numbers from the command line, and formatting numbers for people.

use std::num::IntErrorKind;
use std::time::Duration;

/// Parses an integer such as `4096`, `0x1000`, `4K`, `1M` or `2G`. Underscores between digits are ignored.
pub fn parse(text: &str) -> Result<u64, String> {
    if text.starts_with('-') {
        return Err(format!("`{text}` is negative; write a word of all ones as 0xffffffff"));
    }
    let bad = || {
        format!(
            "`{text}` is not a number: use 4096, 0x1000, or a suffix for powers of 1024, as in 4K, 1M or 2G"
        )
    };
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
    value.ok_or_else(|| format!("`{text}` does not fit in 64 bits"))
}

/// Parses a number from 1 to `MAX`, of which an option may take several.
pub fn count<const MAX: u8>(text: &str) -> Result<u8, String> {
    let count = text.parse().ok().filter(|count| (1..=MAX).contains(count));
    count.ok_or_else(|| format!("`{text}` is not a number from 1 to {MAX}; list several as in 1,2,4"))
}

/// Parses a number of seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().filter(|time: &f64| (0.001..=1e6).contains(time));
    let time = time.ok_or_else(|| {
        format!("`{text}` is not a number of seconds: use a number from 0.001 to 1000000, such as 0.5")
    })?;
    Ok(Duration::from_secs_f64(time))
}

/// Formats a number of bytes, such as `96.50 MiB` or `512 bytes`.
pub fn bytes(value: u64) -> String {
    match value {
        1 => "1 byte".into(),
        0..1024 => format!("{value} bytes"),
        _ => indicatif::BinaryBytes(value).to_string().replace(".00", ""),
    }
}

/// Formats a time in nanoseconds with three significant digits, such as `950 ns`, `12.3 µs` or `4.56 ms`.
pub fn nanoseconds(value: u64) -> String {
    let (scaled, unit) = match value {
        0..1_000 => return format!("{value} ns"),
        1_000..1_000_000 => (value as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (value as f64 / 1e6, "ms"),
        _ => (value as f64 / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(scaled))
}

/// Formats a rate in bytes per second with three digits and powers of 1000, such as `0.95 MB/s`, `12.3 MB/s` or `4.56 GB/s`.
pub fn rate(bytes_per_second: f64) -> String {
    match bytes_per_second {
        giga if giga >= 999.5e6 => format!("{} GB/s", three_digits(giga / 1e9)),
        mega => format!("{} MB/s", three_digits(mega / 1e6)),
    }
}

/// Formats a number with three digits and powers of 1000, such as `12.3`, `1.23 k` or `5.00 M`.
pub fn short(value: f64) -> String {
    match value {
        ..999.5 => three_digits(value),
        ..999.5e3 => format!("{} k", three_digits(value / 1e3)),
        ..999.5e6 => format!("{} M", three_digits(value / 1e6)),
        _ => format!("{} G", three_digits(value / 1e9)),
    }
}

/// Formats a number below 1000 with three significant digits.
fn three_digits(value: f64) -> String {
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
    fn numbers_are_parsed_and_formatted() {
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("0x5000_0000"), Ok(0x5000_0000));
        assert_eq!((parse("64K"), parse("1m"), parse("0x2G")), (Ok(65536), Ok(1 << 20), Ok(2 << 30)));
        for bad in ["", "K", "0x", "1.5M", "-1", "+1", "0x+1", "ä", "1ä"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for large in ["17179869184G", "0x10000000000000000", "99999999999999999999"] {
            assert!(parse(large).unwrap_err().contains("64 bits"), "{large}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(["0", "-1", "NaN", "1e9", "1e19", "inf", "x"].iter().all(|text| seconds(text).is_err()));
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
