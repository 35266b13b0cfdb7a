//! Quantities as people read them, short enough for a table.

/// `268435456` as `256M`, in powers of 1024, with at most one decimal.
pub(crate) fn bytes(value: u64) -> String {
    scaled(value, 1024, &["", "K", "M", "G", "T", "P", "E"])
}

/// `1234567` as `1.2M`, in powers of 1000.
pub(crate) fn count(value: u64) -> String {
    scaled(value, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

/// `1234` as `1.2us`.
pub(crate) fn nanoseconds(value: u64) -> String {
    scaled(value, 1000, &["ns", "us", "ms", "s", "ks", "Ms", "Gs"])
}

/// The value in the largest unit that leaves at least one whole; a decimal only below ten, and not when it is 0.
fn scaled(value: u64, step: u64, units: &[&str]) -> String {
    let mut divisor = 1u64;
    let mut unit = 0;
    while value / divisor >= step && unit + 1 < units.len() {
        divisor *= step;
        unit += 1;
    }
    let (whole, rest) = (value / divisor, value % divisor);
    let tenth = u128::from(rest) * 10 / u128::from(divisor);
    let unit = units.get(unit).copied().unwrap_or_default();
    if whole < 10 && tenth > 0 { format!("{whole}.{tenth}{unit}") } else { format!("{whole}{unit}") }
}

/// A duration in words of at most two units: `3d 4h`, `12m 5s`.
pub(crate) fn duration_ms(value: u64) -> String {
    let seconds = value / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// A moment in UTC, to the millisecond: `2026-11-22 15:32:19.123`.
pub(crate) fn moment(unix_ns: u64) -> String {
    let milliseconds = unix_ns / 1_000_000;
    let (seconds, fraction) = (milliseconds / 1000, milliseconds % 1000);
    let (year, month, day) = date(seconds / 86400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:03}")
}

/// The Gregorian date so many days after 1970-01-01. Years are counted from March, so that a leap day is a year's last.
fn date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_short() {
        assert_eq!(
            [0, 1023, 1024, 1536, 256 << 20, u64::MAX].map(bytes),
            ["0", "1023", "1K", "1.5K", "256M", "15E"]
        );
        assert_eq!([999, 1000, 12_345, 1_234_567].map(count), ["999", "1k", "12k", "1.2M"]);
        assert_eq!([999, 1234, 45_000_000].map(nanoseconds), ["999ns", "1.2us", "45ms"]);
    }

    #[test]
    fn durations_have_two_units() {
        let texts = [999, 60_000, 3_600_000, 90_000_000].map(duration_ms);
        assert_eq!(texts, ["0s", "1m 0s", "1h 0m", "1d 1h"]);
    }

    #[test]
    fn moments_are_right_around_leap_days() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00.000"),
            (951_782_399, "2000-02-28 23:59:59.000"),
            (951_782_400, "2000-02-29 00:00:00.000"),
            (1_709_251_200, "2024-03-01 00:00:00.000"),
            (4_107_542_400, "2100-03-01 00:00:00.000"),
        ] {
            assert_eq!(moment(seconds * 1_000_000_000), text);
        }
    }
}
