use serde::{Deserialize, Serialize};

use crate::balance::Waterlines;

/// When channels are moved from one sidecore to another by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Given")]
pub struct Balance {
    /// Whether they are.
    pub enabled: bool,
    /// A sidecore that is busier than this gives channels away, percent of its time.
    pub high_water_percent: u8,
    /// Sidecores that together are less busy than this become one, percent of one's time.
    pub low_water_percent: u8,
    /// How often the loads are looked at, milliseconds.
    pub interval_ms: u32,
}

/// What a file says, before it is known to make sense.
#[derive(Deserialize)]
#[serde(default)]
struct Given {
    enabled: bool,
    high_water_percent: u8,
    low_water_percent: u8,
    interval_ms: u32,
}

/// What makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum BalanceError {
    #[error(
        "low_water_percent is {low}, high_water_percent {high}: leave at least {GAP_PERCENT} between them, and none above 100"
    )]
    Waterlines { low: u8, high: u8 },
    #[error(
        "interval_ms is {0}: write at least {INTERVAL_MS_MIN}, so that an interval has something to tell"
    )]
    Interval(u32),
}

/// Waterlines closer than this would have channels moved to and fro.
const GAP_PERCENT: u8 = 10;
/// The control thread looks around no more often than that.
const INTERVAL_MS_MIN: u32 = 100;

impl Default for Balance {
    fn default() -> Self {
        Self { enabled: true, high_water_percent: 80, low_water_percent: 40, interval_ms: 1000 }
    }
}

impl Default for Given {
    fn default() -> Self {
        let Balance { enabled, high_water_percent, low_water_percent, interval_ms } = Balance::default();
        Self { enabled, high_water_percent, low_water_percent, interval_ms }
    }
}

impl TryFrom<Given> for Balance {
    type Error = BalanceError;

    fn try_from(given: Given) -> Result<Self, BalanceError> {
        let Given { enabled, high_water_percent: high, low_water_percent: low, interval_ms } = given;
        if high > 100 || low.saturating_add(GAP_PERCENT) > high {
            return Err(BalanceError::Waterlines { low, high });
        }
        if interval_ms < INTERVAL_MS_MIN {
            return Err(BalanceError::Interval(interval_ms));
        }
        Ok(Self { enabled, high_water_percent: high, low_water_percent: low, interval_ms })
    }
}

impl Balance {
    /// For the policy.
    #[must_use]
    pub fn waterlines(&self) -> Waterlines {
        Waterlines {
            high_permille: u32::from(self.high_water_percent) * 10,
            low_permille: u32::from(self.low_water_percent) * 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Result<Balance, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn what_is_not_said_is_default() {
        assert_eq!(given(""), Ok(Balance::default()));
        assert_eq!(given("enabled = false"), Ok(Balance { enabled: false, ..Balance::default() }));
    }

    #[test]
    fn waterlines_that_channels_would_swing_between_are_refused() {
        for text in ["low_water_percent = 80", "high_water_percent = 45", "high_water_percent = 101"] {
            let error = given(text).unwrap_err();
            assert!(error.contains("leave at least 10 between them"), "{error}");
        }
        assert!(given("low_water_percent = 70").is_ok());
        assert!(given("interval_ms = 5").unwrap_err().contains("write at least 100"));
    }
}
