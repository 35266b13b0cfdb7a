//! Quantities as they are typed on the command line and as people read them.

use std::time::Duration;

use crate::arguments::Cpus;

const KIBI: u64 = 1024;
const KILO: u64 = 1000;
/// Most cores that a list may name; a typing error must not fill memory.
const CPUS_MAX: usize = 4096;

/// `4K`, `1G`, `4096`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    scaled(text, KIBI).ok_or_else(|| "a size is a number and perhaps K, M, G or T: 4096, 128K, 1G".to_owned())
}

/// `100000`, `100k`, `1M`; not zero.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    scaled(text, KILO)
        .filter(|&count| count > 0)
        .ok_or_else(|| "a number of requests is above zero, perhaps with k or M: 5000, 100k, 2M".to_owned())
}

/// `50000`, `50k`, `1.5M`; above zero.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, exponent) = split_unit(text);
    number
        .parse::<f64>()
        .ok()
        .zip(exponent)
        .map(|(number, exponent)| number * (KILO as f64).powi(exponent.cast_signed()))
        .filter(|rate| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| {
            "a rate is above zero, perhaps with k or M: 500, 50k, 1.5M requests a second".to_owned()
        })
}

/// `10`, `10s`, `500ms`, `2m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_s = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit_s);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a time is a number and perhaps us, ms, s, m or h: 10, 500ms, 2m".to_owned())
}

/// `1`, `1,3`, `4-7,2`.
pub(crate) fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let failed = || "cores are numbers and ranges: 1 or 0,2 or 4-7".to_owned();
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = first
            .parse()
            .ok()
            .zip(last.parse().ok())
            .filter(|(first, last)| first <= last)
            .ok_or_else(failed)?;
        if cpus.len().saturating_add((last - first) as usize) >= CPUS_MAX {
            return Err(failed());
        }
        cpus.extend(first..=last);
    }
    Ok(Cpus(cpus))
}

fn scaled(text: &str, base: u64) -> Option<u64> {
    let (number, exponent) = split_unit(text);
    number.parse::<u64>().ok()?.checked_mul(base.checked_pow(exponent?)?)
}

/// The number, and the power that its unit stands for; `None` for a unit that there is not.
fn split_unit(text: &str) -> (&str, Option<u32>) {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_uppercase();
    let unit = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit);
    let exponent = match unit {
        "" => Some(0),
        "K" => Some(1),
        "M" => Some(2),
        "G" => Some(3),
        "T" => Some(4),
        _ => None,
    };
    (number, exponent)
}

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

/// Nanoseconds as `830ns`, `8.1us`, `310us` or `1.2ms`.
pub(crate) fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1000 => return format!("{ns}ns"),
        1000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    if value < 10.0 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// `4096` as `4K`: as it is typed.
pub(crate) fn bytes(value: u64) -> String {
    let mut rest = value;
    for unit in ["", "K", "M", "G"] {
        if rest == 0 || !rest.is_multiple_of(KIBI) {
            return format!("{rest}{unit}");
        }
        rest /= KIBI;
    }
    format!("{rest}T")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        assert_eq!(
            ["4096", "4K", "128k", "1GiB", "2TB"].map(|text| parse_size(text).unwrap()),
            [4096, 4096, 131_072, 1 << 30, 2 << 40]
        );
        assert_eq!(["1", "5k", "2M"].map(|text| parse_count(text).unwrap()), [1, 5_000, 2_000_000]);
        assert_eq!(
            ["0.5", "50k", "1.5M"].map(|text| parse_rate(text).unwrap()),
            [0.5, 50_000.0, 1_500_000.0]
        );
        let ms = ["10", "10s", "500ms", "2m", "0.5s"].map(|text| parse_duration(text).unwrap().as_millis());
        assert_eq!(ms, [10_000, 10_000, 500, 120_000, 500]);
        assert_eq!(parse_cpus("4-6,1").unwrap().0, [4, 5, 6, 1]);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "x", "-1", "4X", "99999999999T", "1.5K"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        for text in ["0", "0k", ""] {
            assert!(parse_count(text).is_err(), "{text}");
        }
        for text in ["0", "-5", "nan", "inf", "5x"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        for text in ["", "5y", "ms", "99999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["", "a", "3-1", "0-99999999", "1,,2"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_are_shown_short() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([830, 8_140, 310_000, 1_200_000].map(duration), ["830ns", "8.1us", "310us", "1.2ms"]);
        assert_eq!([512, 4096, 131_072, 1 << 30].map(bytes), ["512", "4K", "128K", "1G"]);
    }
}
