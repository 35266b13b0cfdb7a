//! What the victim is promised, or the bullies are held to.

use serde::Serialize;
use vfiomux_rpc::{Guarantees, RateLimit};

/// The victim's reservation, as a part of what it does alone at depth 1: more than it can use, so that it is never behind.
const RESERVED_PERCENT_OF_ALONE: u64 = 150;
/// What bullies are held to by a static limit, all together, as a part of what the device does: what an operator has to leave free for
/// queues at the device to stay short when arrivals are uneven.
const LIMITED_TO_PERCENT: u64 = 80;
/// Requests that a limited bully may send at once.
const LIMITED_BURST: u64 = 4;

/// How the device is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Regime {
    /// Nobody is promised anything.
    Unlimited,
    /// The victim has a reservation and a large share; the bullies have nothing and are held to nothing.
    Guaranteed,
    /// The bullies have a limit each, that adds up to a part of the device; the victim has nothing.
    StaticLimit,
}

impl Regime {
    pub(crate) const ALL: [Self; 3] = [Self::Unlimited, Self::Guaranteed, Self::StaticLimit];

    /// As the table calls it, with so many bullies.
    pub(crate) fn name(self, bullies: u32) -> String {
        match (self, bullies) {
            (_, 0) => "alone".to_owned(),
            (_, bullies) => format!("{bullies} bullies, {}", self.word()),
        }
    }

    /// As pictures call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unlimited => "no guarantees",
            Self::Guaranteed => "guarantees",
            Self::StaticLimit => "static limit",
        }
    }

    /// Of the victim, which alone does `alone_iops`.
    pub(crate) fn of_victim(self, alone_iops: u64) -> Guarantees {
        let mut guarantees = Guarantees::default();
        if self == Self::Guaranteed {
            guarantees.reservation_ops = Some((alone_iops * RESERVED_PERCENT_OF_ALONE / 100).max(1));
            guarantees.share = Some(1000);
        }
        guarantees
    }

    /// Of each of so many bullies, on a device that does `device_iops`.
    pub(crate) fn of_bully(self, device_iops: u64, bullies: u32) -> Guarantees {
        let mut guarantees = Guarantees::default();
        if self == Self::StaticLimit {
            let each = device_iops * LIMITED_TO_PERCENT / 100 / u64::from(bullies.max(1));
            guarantees.ops = Some(RateLimit { per_second: each.max(1), burst: Some(LIMITED_BURST) });
        }
        guarantees
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_guarantees_nobody_has_any() {
        assert!(
            Regime::Unlimited.of_victim(900).is_none() && Regime::Unlimited.of_bully(16_000, 4).is_none()
        );
        assert!(Regime::Guaranteed.of_bully(16_000, 4).is_none());
        assert!(Regime::StaticLimit.of_victim(900).is_none());
    }

    #[test]
    fn static_limits_add_up_to_a_part_of_the_device() {
        for bullies in [1, 4, 16] {
            let each = Regime::StaticLimit.of_bully(16_000, bullies).ops.unwrap().per_second;
            assert_eq!(each * u64::from(bullies), 12_800);
        }
    }
}
