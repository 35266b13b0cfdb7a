//! Quantities as people read them, all of one width so that a table stands still.

/// `1234567` as `1 234 567`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds as `8.1 us`, `310 us` or `1.2 ms`.
pub(crate) fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0 => return "0 us".to_owned(),
        1..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// Bytes as `1.21 GB`, `12.3 GB`, `350 MB`, in powers of 1000.
pub(crate) fn bytes(value: u64) -> String {
    let mega = value as f64 / 1e6;
    match mega {
        ..1000.0 => format!("{mega:.0} MB"),
        1000.0..10_000.0 => format!("{:.2} GB", mega / 1e3),
        _ => format!("{:.1} GB", mega / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_short() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([0, 8_140, 310_000, 1_200_000].map(duration), ["0 us", "8.1 us", "310 us", "1.2 ms"]);
        assert_eq!(
            [0, 350_000_000, 1_214_000_000, 12_340_000_000].map(bytes),
            ["0 MB", "350 MB", "1.21 GB", "12.3 GB"]
        );
    }
}
