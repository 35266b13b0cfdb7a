use serde::{Deserialize, Serialize};
use vfiomux_plugin_abi::Setting;

use crate::{Channel, Guarantees, Objective, RateLimit};

/// One setting, and the value that it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Amendment {
    /// Which. Any number may come back from a plugin.
    #[serde(with = "number")]
    pub setting: Setting,
    /// Its value, in its unit.
    pub value: u64,
}

/// On the wire, a setting is the number that crosses the ABI.
mod number {
    use serde::{Deserialize, Deserializer, Serializer};
    use vfiomux_plugin_abi::Setting;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
    pub(super) fn serialize<S: Serializer>(setting: &Setting, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(setting.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Setting, D::Error> {
        u32::deserialize(from).map(Setting)
    }
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
