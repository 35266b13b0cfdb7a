//! Fault plans: which commands go wrong, and how.

use vfiomux_spec::nvme::{StatusField, SubmissionEntry};

use crate::rng::Rng;

/// One fault: the commands it waits for, and what happens to them.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Which commands.
    pub when: Match,
    /// What happens.
    pub action: Action,
}

/// Which commands a fault takes. [`Default`] takes the very next one, on any queue.
#[derive(Debug, Clone, Copy)]
pub struct Match {
    /// On which queue.
    pub queue: QueueMatch,
    /// With which opcode; any when `None`.
    pub opcode: Option<u8>,
    /// On which namespace; any when `None`.
    pub nsid: Option<u32>,
    /// How many such commands pass before.
    pub skip: u32,
    /// How many are then taken; `u32::MAX` for all.
    pub times: u32,
}

impl Default for Match {
    fn default() -> Self {
        Self { queue: QueueMatch::Any, opcode: None, nsid: None, skip: 0, times: 1 }
    }
}

/// On which queue a fault waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueMatch {
    /// Any queue.
    Any,
    /// The admin queue.
    Admin,
    /// Any I/O queue.
    Io,
    /// One submission queue.
    Sq(u16),
}

/// What happens to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It takes this much longer.
    DelayNs(u64),
    /// It completes only after this many later commands have, or when nothing else is left to do: reordering.
    HoldBack(u32),
    /// It is carried out, and its completion is lost.
    Drop,
    /// It stays in the controller, not carried out, until it is [released](crate::SimNvme::release_hung) or aborted, its queue is
    /// deleted, or the controller reset.
    Hang,
    /// It completes twice.
    Duplicate,
    /// It is carried out, and completes under another identifier: the right one exclusive-or this mask.
    WrongCid(u16),
    /// It is not carried out, and completes with this status.
    Fail(StatusField),
    /// It is carried out, and from then on the health log says that the controller is no longer reliable.
    Warn,
    /// The controller stops for good with `CSTS.CFS` set, before carrying it out.
    Fatal,
    /// The function leaves the bus, before carrying it out.
    Vanish,
}

/// How often commands go wrong by chance, in parts per million of I/O commands.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultRates {
    /// [`Action::DelayNs`], by up to a millisecond.
    pub delay_ppm: u32,
    /// [`Action::HoldBack`], by up to 16 commands.
    pub hold_back_ppm: u32,
    /// [`Action::Drop`].
    pub drop_ppm: u32,
    /// [`Action::Hang`].
    pub hang_ppm: u32,
    /// [`Action::Duplicate`].
    pub duplicate_ppm: u32,
    /// [`Action::WrongCid`], by one random bit.
    pub wrong_cid_ppm: u32,
    /// [`Action::Fail`], with an internal error that may be retried.
    pub error_ppm: u32,
}

/// All faults in force.
#[derive(Debug, Default)]
pub(crate) struct FaultPlan {
    faults: Vec<Fault>,
    chance: Option<(FaultRates, Rng)>,
}

impl FaultPlan {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(crate) fn set_rates(&mut self, rates: FaultRates, seed: u64) {
        self.chance = Some((rates, Rng::new(seed)));
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty() && self.chance.is_none()
    }

    /// What happens to a command that has just been fetched. The first fault that takes it wins.
    pub(crate) fn strike(&mut self, sq_id: u16, entry: &SubmissionEntry) -> Option<Action> {
        for fault in &mut self.faults {
            let when = &mut fault.when;
            let queue = match when.queue {
                QueueMatch::Any => true,
                QueueMatch::Admin => sq_id == 0,
                QueueMatch::Io => sq_id != 0,
                QueueMatch::Sq(id) => sq_id == id,
            };
            let opcode = when.opcode.is_none_or(|opcode| opcode == entry.opcode);
            let nsid = when.nsid.is_none_or(|nsid| nsid == entry.nsid.get());
            if !(queue && opcode && nsid) || when.times == 0 {
                continue;
            }
            if when.skip > 0 {
                when.skip -= 1;
                continue;
            }
            if when.times != u32::MAX {
                when.times -= 1;
            }
            let action = fault.action;
            self.faults.retain(|fault| fault.when.times > 0);
            return Some(action);
        }
        let (rates, rng) = self.chance.as_mut().filter(|_| sq_id != 0)?;
        let internal = vfiomux_spec::nvme::Status::INTERNAL_ERROR.field();
        let delay_ns = 1 + rng.below(1_000_000);
        let hold = 1 + u32::from(rng.nibble());
        let mask = 1u16 << rng.nibble();
        let choices = [
            (rates.delay_ppm, Action::DelayNs(delay_ns)),
            (rates.hold_back_ppm, Action::HoldBack(hold)),
            (rates.drop_ppm, Action::Drop),
            (rates.hang_ppm, Action::Hang),
            (rates.duplicate_ppm, Action::Duplicate),
            (rates.wrong_cid_ppm, Action::WrongCid(mask)),
            (rates.error_ppm, Action::Fail(internal)),
        ];
        choices.into_iter().find(|&(parts, _)| rng.per_million(parts)).map(|(_, action)| action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(opcode: u8, nsid: u32) -> SubmissionEntry {
        SubmissionEntry { opcode, nsid: nsid.into(), ..SubmissionEntry::default() }
    }

    #[test]
    fn a_fault_takes_the_nth_match_and_then_no_more() {
        let mut plan = FaultPlan::default();
        let when = Match { queue: QueueMatch::Io, opcode: Some(2), nsid: Some(1), skip: 1, times: 2 };
        plan.add(Fault { when, action: Action::Drop });
        assert_eq!(plan.strike(0, &command(2, 1)), None);
        assert_eq!(plan.strike(1, &command(1, 1)), None);
        assert_eq!(plan.strike(1, &command(2, 2)), None);
        let struck: Vec<_> = (0..4).map(|_| plan.strike(3, &command(2, 1)).is_some()).collect();
        assert_eq!(struck, [false, true, true, false]);
        assert!(plan.is_empty());
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed_and_spares_the_admin_queue() {
        let rates = FaultRates { drop_ppm: 300_000, ..FaultRates::default() };
        let drawn = |seed| {
            let mut plan = FaultPlan::default();
            plan.set_rates(rates, seed);
            (0..100).map(|_| plan.strike(1, &command(2, 1))).collect::<Vec<_>>()
        };
        assert_eq!(drawn(5), drawn(5));
        assert_ne!(drawn(5), drawn(6));
        assert!(drawn(5).contains(&Some(Action::Drop)));
        let mut plan = FaultPlan::default();
        plan.set_rates(FaultRates { drop_ppm: 1_000_000, ..rates }, 1);
        assert_eq!(plan.strike(0, &command(2, 1)), None);
    }
}
