//! Numbers for people.

/// `1,048,576`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `96.0 MiB`, `512 B`.
pub fn bytes(value: u64) -> String {
    let (mut scaled, mut unit) = (value as f64, 0);
    while scaled >= 1024.0 && unit < 4 {
        (scaled, unit) = (scaled / 1024.0, unit + 1);
    }
    match unit {
        0 => format!("{value} B"),
        _ => format!("{scaled:.1} {}", ["", "KiB", "MiB", "GiB", "TiB"][unit]),
    }
}

/// Three digits and a unit: `87.9 ms`.
pub fn seconds(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v >= 1.0 => (v, "s"),
        v if v >= 1e-3 => (v * 1e3, "ms"),
        v if v >= 1e-6 => (v * 1e6, "µs"),
        v => (v * 1e9, "ns"),
    };
    let decimals = if scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.decimals$} {unit}")
}

/// `10.8 GB/s`, decimal as bandwidths are.
pub fn bandwidth(bytes: u64, seconds: f64) -> String {
    let rate = bytes as f64 / seconds;
    if rate >= 1e9 { format!("{:.1} GB/s", rate / 1e9) } else { format!("{:.0} MB/s", rate / 1e6) }
}
