use crate::abi::{Amendment, Setting};
use crate::{Channel, Guarantees, Objective, RateLimit};

/// What a policy answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As asked.
    Allow,
    /// Not at all: why, as a phrase that the caller reads.
    Deny(String),
    /// With these changes. Amending nothing is allowing.
    Amend(Amendments),
}

impl Verdict {
    /// A denial.
    #[must_use]
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny(reason.into())
    }
}

impl From<Amendments> for Verdict {
    fn from(amendments: Amendments) -> Self {
        if amendments.is_empty() { Self::Allow } else { Self::Amend(amendments) }
    }
}

/// What shall be otherwise, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amendments(Vec<Amendment>);

/// An amendment that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Senseless(pub Amendment);

impl Amendments {
    /// Nothing is otherwise.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// What must change for one set of guarantees to become another, in an order in which it can be done: a limit before its
    /// burst, and neither a burst nor a percentile of what is not wanted.
    #[must_use]
    pub fn between(present: &Guarantees, wanted: &Guarantees) -> Self {
        let (present, wanted) = (numbers(present), numbers(wanted));
        let mut changed = Vec::new();
        for (index, &(setting, value)) in wanted.iter().enumerate() {
            let depends = matches!(
                setting,
                Setting::OPS_BURST
                    | Setting::BYTES_BURST
                    | Setting::READ_OPS_BURST
                    | Setting::READ_BYTES_BURST
                    | Setting::WRITE_OPS_BURST
                    | Setting::WRITE_BYTES_BURST
                    | Setting::OBJECTIVE_PERMILLE
            );
            // What a burst or a percentile is of stands right before it.
            let pointless = depends && wanted[..index].last().is_some_and(|&(_, of)| of == 0);
            if !pointless && present[index].1 != value {
                changed.push(Amendment::new(setting, value));
            }
        }
        Self(changed)
    }

    /// Sets one setting, whatever it is.
    #[must_use]
    pub fn set(mut self, setting: Setting, value: u64) -> Self {
        self.0.push(Amendment::new(setting, value));
        self
    }

    /// Sets the size.
    #[must_use]
    pub fn size_bytes(self, size_bytes: u64) -> Self {
        self.set(Setting::SIZE_BYTES, size_bytes)
    }

    /// Sets the most virtqueues that a front-end may start.
    #[must_use]
    pub fn queues(self, queues: u32) -> Self {
        self.set(Setting::QUEUES, u64::from(queues))
    }

    /// Sets whether writes are refused.
    #[must_use]
    pub fn read_only(self, read_only: bool) -> Self {
        self.set(Setting::READ_ONLY, u64::from(read_only))
    }

    /// Sets the reservation; 0 takes it away.
    #[must_use]
    pub fn reservation_ops(self, reservation_ops: u64) -> Self {
        self.set(Setting::RESERVATION_OPS, reservation_ops)
    }

    /// Sets the weight.
    #[must_use]
    pub fn share(self, share: u32) -> Self {
        self.set(Setting::SHARE, u64::from(share))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Amendment] {
        &self.0
    }

    /// The last value given to a setting.
    #[must_use]
    pub fn get(&self, setting: Setting) -> Option<u64> {
        self.0.iter().rev().find(|amendment| amendment.setting == setting).map(|amendment| amendment.value)
    }

    /// The channel as it is with these changes.
    ///
    /// # Errors
    /// [`Senseless`], the first that the daemon would not take either.
    pub fn applied_to(&self, channel: &Channel) -> Result<Channel, Senseless> {
        let mut amended = channel.clone();
        for &amendment in &self.0 {
            apply(&mut amended, amendment).ok_or(Senseless(amendment))?;
        }
        Ok(amended)
    }
}

impl FromIterator<Amendment> for Amendments {
    fn from_iter<I: IntoIterator<Item = Amendment>>(amendments: I) -> Self {
        Self(amendments.into_iter().collect())
    }
}

/// Every guarantee with its number, in one order.
fn numbers(guarantees: &Guarantees) -> [(Setting, u64); 16] {
    let rate = |limit: Option<RateLimit>| limit.map_or(0, |limit| limit.per_second);
    let burst = |limit: Option<RateLimit>| limit.and_then(|limit| limit.burst).unwrap_or(0);
    let Guarantees { ops, bytes, read_ops, read_bytes, write_ops, write_bytes, .. } = *guarantees;
    let objective = guarantees.objective;
    [
        (Setting::OPS, rate(ops)),
        (Setting::OPS_BURST, burst(ops)),
        (Setting::BYTES, rate(bytes)),
        (Setting::BYTES_BURST, burst(bytes)),
        (Setting::READ_OPS, rate(read_ops)),
        (Setting::READ_OPS_BURST, burst(read_ops)),
        (Setting::READ_BYTES, rate(read_bytes)),
        (Setting::READ_BYTES_BURST, burst(read_bytes)),
        (Setting::WRITE_OPS, rate(write_ops)),
        (Setting::WRITE_OPS_BURST, burst(write_ops)),
        (Setting::WRITE_BYTES, rate(write_bytes)),
        (Setting::WRITE_BYTES_BURST, burst(write_bytes)),
        (Setting::RESERVATION_OPS, guarantees.reservation_ops),
        (Setting::SHARE, guarantees.share.map_or(0, u64::from)),
        (Setting::OBJECTIVE_LATENCY_NS, objective.map_or(0, |objective| objective.latency_ns)),
        (Setting::OBJECTIVE_PERMILLE, objective.map_or(0, |objective| u64::from(objective.permille))),
    ]
}

fn apply(channel: &mut Channel, Amendment { setting, value, .. }: Amendment) -> Option<()> {
    let guarantees = &mut channel.guarantees;
    match setting {
        Setting::SIZE_BYTES => channel.size_bytes = value,
        Setting::QUEUES => channel.queues = u32::try_from(value).ok()?,
        Setting::READ_ONLY => channel.read_only = flag(value)?,
        Setting::OPS => set_rate(&mut guarantees.ops, value),
        Setting::OPS_BURST => set_burst(&mut guarantees.ops, value)?,
        Setting::BYTES => set_rate(&mut guarantees.bytes, value),
        Setting::BYTES_BURST => set_burst(&mut guarantees.bytes, value)?,
        Setting::READ_OPS => set_rate(&mut guarantees.read_ops, value),
        Setting::READ_OPS_BURST => set_burst(&mut guarantees.read_ops, value)?,
        Setting::READ_BYTES => set_rate(&mut guarantees.read_bytes, value),
        Setting::READ_BYTES_BURST => set_burst(&mut guarantees.read_bytes, value)?,
        Setting::WRITE_OPS => set_rate(&mut guarantees.write_ops, value),
        Setting::WRITE_OPS_BURST => set_burst(&mut guarantees.write_ops, value)?,
        Setting::WRITE_BYTES => set_rate(&mut guarantees.write_bytes, value),
        Setting::WRITE_BYTES_BURST => set_burst(&mut guarantees.write_bytes, value)?,
        Setting::RESERVATION_OPS => guarantees.reservation_ops = value,
        Setting::SHARE => guarantees.share = share(value)?,
        Setting::OBJECTIVE_LATENCY_NS => {
            let permille = guarantees.objective.map_or(990, |objective| objective.permille);
            guarantees.objective = (value > 0).then_some(Objective { permille, latency_ns: value });
        }
        Setting::OBJECTIVE_PERMILLE => set_permille(&mut guarantees.objective, value)?,
        _ => return None,
    }
    Some(())
}

fn flag(value: u64) -> Option<bool> {
    (value <= 1).then_some(value == 1)
}

fn share(value: u64) -> Option<Option<u32>> {
    let value = u32::try_from(value).ok().filter(|&value| value <= Guarantees::SHARE_MAX)?;
    Some((value > 0).then_some(value))
}

fn set_rate(limit: &mut Option<RateLimit>, value: u64) {
    let burst = limit.and_then(|limit| limit.burst);
    *limit = (value > 0).then_some(RateLimit { per_second: value, burst });
}

/// A burst is of a limit that is there.
fn set_burst(limit: &mut Option<RateLimit>, value: u64) -> Option<()> {
    limit.as_mut()?.burst = (value > 0).then_some(value);
    Some(())
}

/// A percentile is of a target that is there.
fn set_permille(objective: &mut Option<Objective>, value: u64) -> Option<()> {
    objective.as_mut()?.permille = u32::try_from(value).ok().filter(|value| (1..=999).contains(value))?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u64, burst: Option<u64>) -> Option<RateLimit> {
        Some(RateLimit { per_second, burst })
    }

    #[test]
    fn what_lies_between_leads_from_one_to_the_other() {
        let none = Guarantees::default();
        let some = Guarantees {
            ops: limit(10, Some(20)),
            write_bytes: limit(30, None),
            reservation_ops: 5,
            share: Some(7),
            objective: Some(Objective { permille: 999, latency_ns: 1 }),
            ..none
        };
        let other = Guarantees {
            ops: limit(10, None),
            bytes: limit(1, Some(2)),
            objective: Some(Objective { permille: 990, latency_ns: 9 }),
            ..none
        };
        for from in [none, some, other] {
            for to in [none, some, other] {
                let channel = Channel { guarantees: from, ..Channel::default() };
                let amended = Amendments::between(&from, &to).applied_to(&channel);
                assert_eq!(amended.map(|channel| channel.guarantees), Ok(to));
            }
            assert!(Amendments::between(&from, &from).is_empty());
        }
    }

    #[test]
    fn what_the_daemon_would_not_take_makes_no_sense() {
        for (setting, value) in [
            (Setting(99), 1),
            (Setting::READ_ONLY, 2),
            (Setting::QUEUES, u64::MAX),
            (Setting::OPS_BURST, 5),
            (Setting::OBJECTIVE_PERMILLE, 990),
            (Setting::SHARE, 10_001),
        ] {
            let amendments = Amendments::none().set(setting, value);
            assert_eq!(
                amendments.applied_to(&Channel::default()),
                Err(Senseless(Amendment::new(setting, value)))
            );
        }
    }
}
