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
        .ok_or_else(|| "a rate is above zero, perhaps with k or M: 500, 50k, 1.5M requests a second".to_owned())
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
        let (first, last): (u32, u32) =
            first.parse().ok().zip(last.parse().ok()).filter(|(first, last)| first <= last).ok_or_else(failed)?;
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
