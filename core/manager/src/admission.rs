//! What a device may be promised, and to whom it is promised (L5).
//!
//! ```text
//!   calibrated reads of 4 KiB a second × over-commit factor − the part that is never promised = capacity
//!   sum over the channels of max(what it has, what it is being given)                        ≤ capacity
//! ```
//!
//! A [`Book`] is kept for each device, in reads of 4 KiB a second, or what costs as much: the measure in which reservations are
//! asked for. Whoever wants to reserve [takes](Book::take) first: the look whether there is room and the taking of it are one
//! step, so that of two who race for the same room only one gets it, however long it takes until either is told. What was taken
//! is held beside what the channel has already, and counts whichever is more, until it is [settled](Book::settle) or
//! [given back](Book::give_back): a tune neither frees what it may have to return to, nor leaves open what it is to become.
//!
//! A book follows what is: channels that came another way (a restart, a device that came back) are [entered](Book::align)
//! whether or not there is room. They keep what they were promised; it is shown when that is more than there is, and nothing
//! new is promised until it fits again.

use std::collections::BTreeMap;

use vfiomux_qos::Scheduler;

use crate::config::Overcommit;
use crate::seeded::{self, Bug};

/// What a device can be promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Offer {
    /// Nobody has measured what it does: nothing can be promised.
    #[default]
    Uncalibrated,
    /// It does less than it was measured to do, nobody knows how much less: nothing more is promised.
    Impaired,
    /// So much in all.
    Ops(u64),
}

impl Offer {
    /// What is offered of a device that was measured to do `calibrated_ops`. One part in [`Scheduler::SHARED_PART`] is nobody's:
    /// it is what channels without a reservation always get.
    #[must_use]
    pub fn of(calibrated_ops: u64, overcommit: Overcommit) -> Self {
        let part = u128::from(Scheduler::SHARED_PART);
        let ops = u128::from(calibrated_ops) * u128::from(overcommit.permille()) * (part - 1) / (1000 * part);
        Self::Ops(u64::try_from(ops).unwrap_or(u64::MAX))
    }

    /// What may be promised in all.
    #[must_use]
    pub fn ops(self) -> u64 {
        match self {
            Self::Uncalibrated | Self::Impaired => 0,
            Self::Ops(ops) => ops,
        }
    }
}

/// A channel that has a reservation, or may get one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its identity.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
}

/// What one channel holds of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub holder: Holder,
    /// What it has.
    pub has_ops: u64,
    /// What it is being given, while that is not settled.
    pub taken_ops: Option<u64>,
}

impl Entry {
    /// What nobody else can have for it.
    #[must_use]
    pub fn held_ops(&self) -> u64 {
        self.taken_ops.map_or(self.has_ops, |taken| taken.max(self.has_ops))
    }
}

/// Why nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// What the device can be promised in all.
    pub offer: Offer,
    /// What was asked for.
    pub asked_ops: u64,
    /// What the one who asked could have at most.
    pub free_ops: u64,
    /// Who has the rest, the largest first.
    pub holders: Vec<Entry>,
}

/// What one device can be promised, and who has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    offer: Offer,
    entries: BTreeMap<String, Entry>,
}

impl Book {
    /// What can be promised from now on. What was promised stays, also when it is more.
    pub fn set_offer(&mut self, offer: Offer) {
        self.offer = offer;
    }

    /// What can be promised in all.
    #[must_use]
    pub fn offer(&self) -> Offer {
        self.offer
    }

    /// Looks whether a channel can have `ops` in place of what it has, and takes them, in one step. What it had taken before and
    /// not settled is replaced. To have less, or as much as now, is never refused.
    ///
    /// # Errors
    /// [`Shortage`]: nothing was taken, and what was taken before stays taken.
    pub fn take(&mut self, holder: &Holder, ops: u64) -> Result<(), Shortage> {
        let has_ops = self.entries.get(&holder.id).map_or(0, |entry| entry.has_ops);
        let others = self.entries.values().filter(|entry| entry.holder.id != holder.id);
        let others_ops = others.fold(0u64, |sum, entry| sum.saturating_add(entry.held_ops()));
        let free_ops = self.offer.ops().saturating_sub(others_ops);
        if ops > has_ops && ops > free_ops {
            let holders = self.largest_first(Some(&holder.id));
            return Err(Shortage {
                offer: self.offer,
                asked_ops: ops,
                free_ops: free_ops.max(has_ops),
                holders,
            });
        }
        if seeded::is(Bug::CheckThenAct) {
            return Ok(());
        }
        let entry = Entry { holder: holder.clone(), has_ops, taken_ops: Some(ops) };
        self.entries.insert(holder.id.clone(), entry);
        Ok(())
    }

    /// What a channel took is what it has from now on.
    pub fn settle(&mut self, holder: &Holder, ops: u64) {
        let entry = Entry { holder: holder.clone(), has_ops: ops, taken_ops: None };
        self.entries.insert(holder.id.clone(), entry);
        self.forget_empty();
    }

    /// What a channel took and did not settle is free again.
    pub fn give_back(&mut self, id: &str) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.taken_ops = None;
        }
        self.forget_empty();
    }

    /// A channel is gone, and all that it had is free.
    pub fn release(&mut self, id: &str) {
        self.entries.remove(id);
    }

    /// Takes over what is: the channels that there are, with what each has, whether or not there is room. What was taken and is
    /// not settled stays.
    pub fn align(&mut self, present: impl IntoIterator<Item = (Holder, u64)>) {
        let mut before = std::mem::take(&mut self.entries);
        for (holder, has_ops) in present {
            let before = before.remove(&holder.id).filter(|entry| entry.taken_ops.is_some());
            // What it had is in force until what it took is settled, whatever its setting says by now.
            let (had_ops, taken_ops) = before.map_or((0, None), |entry| (entry.has_ops, entry.taken_ops));
            self.entries
                .insert(holder.id.clone(), Entry { holder, has_ops: has_ops.max(had_ops), taken_ops });
        }
        for entry in before.into_values().filter(|entry| entry.taken_ops.is_some()) {
            self.entries.insert(entry.holder.id.clone(), Entry { has_ops: 0, ..entry });
        }
        self.forget_empty();
    }

    fn forget_empty(&mut self) {
        self.entries.retain(|_, entry| entry.has_ops > 0 || entry.taken_ops.is_some());
    }

    /// What is held by all together.
    #[must_use]
    pub fn held_ops(&self) -> u64 {
        self.entries.values().fold(0u64, |sum, entry| sum.saturating_add(entry.held_ops()))
    }

    /// Whether all that was promised is covered by what can be.
    #[must_use]
    pub fn is_covered(&self) -> bool {
        self.held_ops() <= self.offer.ops()
    }

    /// Who holds something, the largest first.
    #[must_use]
    pub fn holders(&self) -> Vec<Entry> {
        self.largest_first(None)
    }

    fn largest_first(&self, without: Option<&str>) -> Vec<Entry> {
        let others = self.entries.values().filter(|entry| without != Some(entry.holder.id.as_str()));
        let mut holders: Vec<Entry> = others.filter(|entry| entry.held_ops() > 0).cloned().collect();
        holders
            .sort_by(|a, b| b.held_ops().cmp(&a.held_ops()).then_with(|| a.holder.name.cmp(&b.holder.name)));
        holders
    }
}

#[cfg(test)]
mod tests;
