use serde::{Deserialize, Serialize};

use crate::{Channel, Guarantees, Objective, RateLimit};

/// What a verdict may amend, as a number. Any number may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Setting(pub u32);

impl Setting {
    /// [`Channel::size_bytes`].
    pub const SIZE_BYTES: Self = Self(1);
    /// [`Channel::queues`].
    pub const QUEUES: Self = Self(2);
    /// [`Channel::read_only`]: 0 or 1.
    pub const READ_ONLY: Self = Self(3);
    /// Rate of [`Guarantees::ops`]. Of this and every other rate, 0 takes the limit away.
    pub const OPS: Self = Self(16);
    /// Burst of [`Guarantees::ops`]. Of this and every other burst, 0 leaves it to the daemon; the limit must be there.
    pub const OPS_BURST: Self = Self(17);
    /// Rate of [`Guarantees::bytes`].
    pub const BYTES: Self = Self(18);
    /// Burst of [`Guarantees::bytes`].
    pub const BYTES_BURST: Self = Self(19);
    /// Rate of [`Guarantees::read_ops`].
    pub const READ_OPS: Self = Self(20);
    /// Burst of [`Guarantees::read_ops`].
    pub const READ_OPS_BURST: Self = Self(21);
    /// Rate of [`Guarantees::read_bytes`].
    pub const READ_BYTES: Self = Self(22);
    /// Burst of [`Guarantees::read_bytes`].
    pub const READ_BYTES_BURST: Self = Self(23);
    /// Rate of [`Guarantees::write_ops`].
    pub const WRITE_OPS: Self = Self(24);
    /// Burst of [`Guarantees::write_ops`].
    pub const WRITE_OPS_BURST: Self = Self(25);
    /// Rate of [`Guarantees::write_bytes`].
    pub const WRITE_BYTES: Self = Self(26);
    /// Burst of [`Guarantees::write_bytes`].
    pub const WRITE_BYTES_BURST: Self = Self(27);
    /// [`Guarantees::reservation_ops`]; 0 takes it away.
    pub const RESERVATION_OPS: Self = Self(32);
    /// [`Guarantees::share`]; 0 is the share of whoever asked for none.
    pub const SHARE: Self = Self(33);
    /// [`Objective::latency_ns`], at the 99th percentile when there was no objective; 0 takes it away.
    pub const OBJECTIVE_LATENCY_NS: Self = Self(34);
    /// [`Objective::permille`], from 1 to 999; the objective must be there.
    pub const OBJECTIVE_PERMILLE: Self = Self(35);

    /// Every setting there is, with the name that people read.
    pub const ALL: [(Self, &'static str); 19] = [
        (Self::SIZE_BYTES, "size_bytes"),
        (Self::QUEUES, "queues"),
        (Self::READ_ONLY, "read_only"),
        (Self::OPS, "ops"),
        (Self::OPS_BURST, "ops_burst"),
        (Self::BYTES, "bytes"),
        (Self::BYTES_BURST, "bytes_burst"),
        (Self::READ_OPS, "read_ops"),
        (Self::READ_OPS_BURST, "read_ops_burst"),
        (Self::READ_BYTES, "read_bytes"),
        (Self::READ_BYTES_BURST, "read_bytes_burst"),
        (Self::WRITE_OPS, "write_ops"),
        (Self::WRITE_OPS_BURST, "write_ops_burst"),
        (Self::WRITE_BYTES, "write_bytes"),
        (Self::WRITE_BYTES_BURST, "write_bytes_burst"),
        (Self::RESERVATION_OPS, "reservation_ops"),
        (Self::SHARE, "share"),
        (Self::OBJECTIVE_LATENCY_NS, "objective_latency_ns"),
        (Self::OBJECTIVE_PERMILLE, "objective_permille"),
    ];

    /// The name that people read; none for a number that is no setting.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::ALL.iter().find(|(setting, _)| *setting == self).map(|(_, name)| *name)
    }
}

/// One setting, and the value that it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Amendment {
    /// Which.
    pub setting: Setting,
    /// Its value, in its unit.
    pub value: u64,
}

/// An amendment that makes no sense. The phrase goes on from the name of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmendError {
    /// The question has no such setting.
    #[error("amended setting {}, which this request does not have", .0.0)]
    NoSuchSetting(Setting),
    /// The setting cannot have the value.
    #[error("amended setting {} to {}, which it cannot have", .0.setting.0, .0.value)]
    Value(Amendment),
}

impl Channel {
    /// Changes one setting.
    ///
    /// # Errors
    /// [`AmendError`]; the channel is as it was.
    pub fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        let wrong = AmendError::Value(amendment);
        match amendment.setting {
            Setting::SIZE_BYTES => self.size_bytes = amendment.value,
            Setting::QUEUES => self.queues = u16::try_from(amendment.value).map_err(|_| wrong)?,
            Setting::READ_ONLY if amendment.value <= 1 => self.read_only = amendment.value == 1,
            Setting::READ_ONLY => return Err(wrong),
            _ => self.guarantees.amend(amendment)?,
        }
        Ok(())
    }
}

impl Guarantees {
    /// Changes one guarantee.
    ///
    /// # Errors
    /// [`AmendError`]; the guarantees are as they were.
    pub fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        let (wrong, value) = (AmendError::Value(amendment), amendment.value);
        match amendment.setting {
            Setting::RESERVATION_OPS => self.reservation_ops = Some(value).filter(|&value| value != 0),
            Setting::SHARE => {
                let share = u32::try_from(value).map_err(|_| wrong)?;
                self.share = Some(share).filter(|&share| share != 0);
            }
            Setting::OBJECTIVE_LATENCY_NS => {
                let permille = self.objective.map_or(Objective::PERMILLE_DEFAULT, |before| before.permille);
                let objective = Objective { permille, latency_ns: value };
                self.objective = Some(objective).filter(|objective| objective.latency_ns != 0);
            }
            Setting::OBJECTIVE_PERMILLE => {
                let permille = u16::try_from(value).map_err(|_| wrong)?;
                let objective = self.objective.as_mut().ok_or(wrong)?;
                if !(1..=999).contains(&permille) {
                    return Err(wrong);
                }
                objective.permille = permille;
            }
            other => {
                let (limit, is_burst) = self.limit_mut(other).ok_or(AmendError::NoSuchSetting(other))?;
                match (limit.as_mut(), is_burst) {
                    (Some(limit), true) => limit.burst = Some(value).filter(|&burst| burst != 0),
                    (None, true) => return Err(wrong),
                    (_, false) if value == 0 => *limit = None,
                    (Some(limit), false) => limit.per_second = value,
                    (None, false) => *limit = Some(RateLimit { per_second: value, burst: None }),
                }
            }
        }
        Ok(())
    }

    /// The limit that a setting is of, and whether it is its burst.
    fn limit_mut(&mut self, setting: Setting) -> Option<(&mut Option<RateLimit>, bool)> {
        Some(match setting {
            Setting::OPS => (&mut self.ops, false),
            Setting::OPS_BURST => (&mut self.ops, true),
            Setting::BYTES => (&mut self.bytes, false),
            Setting::BYTES_BURST => (&mut self.bytes, true),
            Setting::READ_OPS => (&mut self.read_ops, false),
            Setting::READ_OPS_BURST => (&mut self.read_ops, true),
            Setting::READ_BYTES => (&mut self.read_bytes, false),
            Setting::READ_BYTES_BURST => (&mut self.read_bytes, true),
            Setting::WRITE_OPS => (&mut self.write_ops, false),
            Setting::WRITE_OPS_BURST => (&mut self.write_ops, true),
            Setting::WRITE_BYTES => (&mut self.write_bytes, false),
            Setting::WRITE_BYTES_BURST => (&mut self.write_bytes, true),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
