//! The time of day and the day of the week, from seconds since 1970 and an offset.

use serde::{Deserialize, Deserializer, de};

const MINUTES_PER_DAY: u64 = 24 * 60;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// From a Monday on.
    const WEEK: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// The day before.
    pub(crate) const fn before(self) -> Self {
        Self::WEEK[(self as usize + 6) % 7]
    }
}

/// Minutes since midnight, written `08:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimeOfDay {
    minutes: u64,
}

/// What the clock on the wall is ahead of UTC, written `+01:00`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UtcOffset {
    minutes: i64,
}

/// When it is, where the offset holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) day: Day,
    pub(crate) time: TimeOfDay,
}

impl Moment {
    pub(crate) fn new(unix_seconds: u64, offset: UtcOffset) -> Self {
        // Beyond what a clock says, the last minute that can be counted; a moment before 1970, midnight of its first day.
        let minutes = (unix_seconds / 60).saturating_add_signed(offset.minutes);
        // 1970-01-01 was a Thursday, three days after a Monday.
        let day = (minutes / MINUTES_PER_DAY + 3) % 7;
        let day = Day::WEEK
            .into_iter()
            .zip(0..)
            .find(|&(_, number)| number == day)
            .map_or(Day::Mon, |(day, _)| day);
        Self { day, time: TimeOfDay { minutes: minutes % MINUTES_PER_DAY } }
    }
}

/// Hours and minutes of `08:30`, which may be `24:00` at most.
fn clock_minutes(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |part: &str| {
        let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        if plain { part.parse::<u64>().ok() } else { None }
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= MINUTES_PER_DAY).then_some(total)
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        clock_minutes(&text)
            .map(|minutes| Self { minutes })
            .ok_or_else(|| de::Error::custom(format!("{text:?} is no time, such as \"08:30\"")))
    }
}

impl<'de> Deserialize<'de> for UtcOffset {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let ahead = text.strip_prefix('+').map(|rest| (1, rest));
        let signed = ahead.or_else(|| text.strip_prefix('-').map(|rest| (-1, rest)));
        let minutes = signed.and_then(|(sign, rest)| Some(sign * i64::try_from(clock_minutes(rest)?).ok()?));
        minutes
            .map(|minutes| Self { minutes })
            .ok_or_else(|| de::Error::custom(format!("{text:?} is no offset, such as \"+01:00\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_seconds: u64, offset_minutes: i64) -> (Day, u64) {
        let Moment { day, time } = Moment::new(unix_seconds, UtcOffset { minutes: offset_minutes });
        (day, time.minutes)
    }

    #[test]
    fn days_and_times_are_those_of_the_calendar() {
        assert_eq!(at(0, 0), (Day::Thu, 0));
        // 2024-02-29 12:34:56 UTC, a Thursday.
        assert_eq!(at(1_709_210_096, 0), (Day::Thu, 12 * 60 + 34));
        assert_eq!(at(1_709_210_096, 12 * 60), (Day::Fri, 34));
        assert_eq!(at(1_709_210_096, -13 * 60), (Day::Wed, 23 * 60 + 34));
        assert_eq!(at(0, -60), (Day::Thu, 0), "there is nothing before the clock's beginning");
        assert_eq!(Day::Mon.before(), Day::Sun);
    }

    #[test]
    fn times_are_written_with_two_digits_each() {
        assert_eq!(clock_minutes("08:30"), Some(510));
        assert_eq!(clock_minutes("24:00"), Some(1440));
        for wrong in ["8:30", "08:60", "24:01", "08", "-1:00", "+8:00", "aa:bb", ""] {
            assert_eq!(clock_minutes(wrong), None, "{wrong}");
        }
    }
}
