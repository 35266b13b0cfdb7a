//! Which channel should be served by which sidecore: a pure policy, asked once an interval.
//!
//! ```text
//!   each sidecore's busy share ─┐
//!   what each channel was served ┼─► Balancer::next ──► at most a few moves
//!   waterlines ─────────────────┘
//! ```
//!
//! Two wishes pull at a channel. A sidecore that is busier than the **high water** has too much: something is moved to where
//! there is room, if that lowers the greater of the two loads by enough to pay (*spreading*). Two sidecores that together stay
//! under the **low water** are one too many: the channels of the quieter one are moved to the other, so that its processor
//! sleeps (*gathering*). Between the waterlines nothing is moved.
//!
//! What keeps it from moving a channel to and fro: a wish must have lasted several intervals before it is followed, gathering
//! longer than spreading; a channel that was moved stays where it is for a while; and what is gathered is under the low water
//! afterwards, which is well below the high one.
//!
//! A channel's load is its part of its sidecore's busy time, by what it was served there. So nothing is measured in the data
//! path, and a sidecore that polls in vain has no load. Time is counted in intervals: there is no clock in here, and the same
//! loads lead to the same moves.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// From where on something is moved, in thousandths of a sidecore's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waterlines {
    /// A sidecore that is busier has too much.
    pub high_permille: u32,
    /// Sidecores that together are less busy than this are too many.
    pub low_permille: u32,
}

/// A sidecore in the last interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sidecore {
    /// Thousandths of the interval that it spent serving.
    pub busy_permille: u32,
    /// It sleeps when it has nothing to do: only then is anything gained by leaving it without channels.
    pub sleeps: bool,
}

/// A channel in the last interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel<Id> {
    /// Who it is.
    pub id: Id,
    /// Index of the sidecore that serves it.
    pub sidecore: usize,
    /// What it was served, in a measure that adds up.
    pub work: u64,
    /// Indices of the sidecores that could serve it as well. Empty for one that cannot be moved now.
    pub targets: Vec<usize>,
}

/// Why a channel is to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its sidecore has too much, and another has room.
    Spread,
    /// Its sidecore and another have so little that one of them can sleep.
    Gather,
}

/// A move that pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move<Id> {
    /// Which channel.
    pub channel: Id,
    /// From which sidecore.
    pub from: usize,
    /// To which sidecore.
    pub to: usize,
    /// What for.
    pub reason: Reason,
    /// The channel's load, in thousandths of its sidecore's time.
    pub load_permille: u32,
}

/// Intervals for which a sidecore must have had too much before anything is moved away.
const SPREAD_AFTER: u32 = 2;
/// Intervals for which sidecores must have had little before their channels are gathered.
const GATHER_AFTER: u32 = 5;
/// A channel works while it has had something to do in one of so many intervals: it wakes its sidecore now and then, whoever happens to
/// look. Fewer than it takes to gather, so that one burst leads to nothing.
const LATELY: u64 = 3;
/// Intervals for which a channel stays where it was moved to.
const DWELL: u64 = 10;
/// By how much a sidecore's load must be above another's for a move to be worth the pause.
const GAP_PPM_MIN: u32 = 60_000;
/// Moves in one interval: what follows from them is seen before there are more.
const MOVES_MAX: usize = 8;

/// The policy, and what it remembers between intervals.
#[derive(Debug)]
pub struct Balancer<Id> {
    high_ppm: u32,
    low_ppm: u32,
    interval: u64,
    /// For how many intervals each sidecore has had too much, by its index.
    full_for: Vec<u32>,
    /// For how many intervals some two sidecores have had little enough for one.
    quiet_for: u32,
    /// In which interval each channel last had something to do, of those that work.
    worked: BTreeMap<Id, u64>,
    /// In which interval each channel was moved, of those that were moved lately.
    moved: BTreeMap<Id, u64>,
}

/// A channel with its share of its sidecore's busy time, in millionths of the interval: of many small ones, each still counts.
struct Share<'a, Id> {
    channel: &'a Channel<Id>,
    ppm: u32,
}

impl<Id: Ord + Clone> Balancer<Id> {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(waterlines: Waterlines) -> Self {
        let ppm = |permille: u32| permille.min(1000) * 1000;
        Self {
            high_ppm: ppm(waterlines.high_permille),
            low_ppm: ppm(waterlines.low_permille),
            interval: 0,
            full_for: Vec::new(),
            quiet_for: 0,
            worked: BTreeMap::new(),
            moved: BTreeMap::new(),
        }
    }

    /// Notes a move that somebody else asked for: the channel stays where it was put for as long as after one of ours.
    pub fn note_move(&mut self, channel: Id) {
        self.moved.insert(channel, self.interval);
    }

    /// What should be moved after an interval like this one. To be asked once an interval.
    pub fn next(&mut self, sidecores: &[Sidecore], channels: &[Channel<Id>]) -> Vec<Move<Id>> {
        self.interval += 1;
        let now = self.interval;
        self.moved.retain(|_, at| now - *at < DWELL);
        self.note_work(channels);
        let mut busy = busy_ppm(sidecores);
        self.full_for.resize(busy.len(), 0);
        for (full_for, busy) in self.full_for.iter_mut().zip(&busy) {
            *full_for = if *busy > self.high_ppm { full_for.saturating_add(1) } else { 0 };
        }
        let shares = shares(&busy, channels);
        let mut moves = self.spread(&mut busy, &shares);
        let pair = self.quiet_pair(sidecores, &busy, &shares).filter(|_| moves.is_empty());
        self.quiet_for = if pair.is_some() { self.quiet_for.saturating_add(1) } else { 0 };
        if self.quiet_for >= GATHER_AFTER
            && let Some((from, to)) = pair
        {
            moves = self.gather(from, to, &shares);
        }
        for made in &moves {
            self.moved.insert(made.channel.clone(), now);
        }
        moves
    }

    /// Notes who had anything to do, be it too little to be seen as a share.
    fn note_work(&mut self, channels: &[Channel<Id>]) {
        let now = self.interval;
        for channel in channels.iter().filter(|channel| channel.work > 0) {
            match self.worked.get_mut(&channel.id) {
                Some(at) => *at = now,
                None => _ = self.worked.insert(channel.id.clone(), now),
            }
        }
        self.worked.retain(|_, at| now - *at < LATELY);
    }

    /// Moves away from sidecores that have had too much for long enough, the busiest first. `busy` is then what is to be expected.
    fn spread(&self, busy: &mut [u32], shares: &[Share<'_, Id>]) -> Vec<Move<Id>> {
        let mut moves: Vec<Move<Id>> = Vec::new();
        while moves.len() < MOVES_MAX {
            let mut full: Vec<(usize, u32)> = busy
                .iter()
                .copied()
                .enumerate()
                .filter(|(_, busy)| *busy > self.high_ppm)
                .filter(|(index, _)| {
                    self.full_for.get(*index).is_some_and(|full_for| *full_for >= SPREAD_AFTER)
                })
                .collect();
            full.sort_by_key(|&(index, busy)| (Reverse(busy), index));
            let is_open = |share: &&Share<'_, Id>| {
                self.is_free(share) && !moves.iter().any(|made| made.channel == share.channel.id)
            };
            let best = full.iter().find_map(|&(from, from_busy)| {
                let here = shares.iter().filter(|share| share.channel.sidecore == from && share.ppm > 0);
                let choices = here
                    .filter(is_open)
                    .flat_map(|share| share.channel.targets.iter().map(move |&to| (share, to)));
                // What the busier of the two would have then. Of moves that are equally good, the one of the lesser channel.
                let rated = choices.filter_map(|(share, to)| {
                    let to_busy = busy.get(to).copied().filter(|_| to != from)?;
                    let busier = (from_busy - share.ppm.min(from_busy)).max(to_busy + share.ppm);
                    (to_busy + GAP_PPM_MIN <= from_busy && busier < from_busy).then_some((busier, share, to))
                });
                rated.min_by_key(|(busier, share, to)| (*busier, share.ppm, *to))
            });
            let Some((_, share, to)) = best else { break };
            if let Some(busy) = busy.get_mut(share.channel.sidecore) {
                *busy -= share.ppm.min(*busy);
            }
            if let Some(busy) = busy.get_mut(to) {
                *busy += share.ppm;
            }
            moves.push(share.moved(to, Reason::Spread));
        }
        moves
    }

    /// The sidecore that should be left without channels, and the one that should have them.
    fn quiet_pair(
        &self,
        sidecores: &[Sidecore],
        busy: &[u32],
        shares: &[Share<'_, Id>],
    ) -> Option<(usize, usize)> {
        let works =
            |index: usize| shares.iter().any(|share| share.channel.sidecore == index && self.works(share));
        let mut all: Vec<(usize, Sidecore, u32)> = sidecores
            .iter()
            .zip(busy)
            .enumerate()
            .map(|(index, (core, busy))| (index, *core, *busy))
            .collect();
        all.retain(|&(index, core, _)| works(index) || !core.sleeps);
        let mut from = all.clone();
        from.retain(|&(index, core, _)| works(index) && core.sleeps);
        from.sort_by_key(|&(index, _, busy)| (busy, Reverse(index)));
        // First to one that never sleeps, then to the busiest that has room: so most stays where it is.
        let mut to = all;
        to.sort_by_key(|&(index, core, busy)| (core.sleeps, Reverse(busy), index));
        from.iter().find_map(|&(from, _, from_busy)| {
            let takes = |to: usize, share: &Share<'_, Id>| {
                share.channel.sidecore == from && self.works(share) && share.channel.targets.contains(&to)
            };
            let fits = |&&(to, _, to_busy): &&(usize, Sidecore, u32)| {
                to != from
                    && from_busy + to_busy <= self.low_ppm
                    && shares.iter().any(|share| takes(to, share))
            };
            to.iter().find(fits).map(|&(to, ..)| (from, to))
        })
    }

    /// The channels that work go, the busiest first.
    fn gather(&self, from: usize, to: usize, shares: &[Share<'_, Id>]) -> Vec<Move<Id>> {
        let mut here: Vec<&Share<'_, Id>> = shares
            .iter()
            .filter(|share| share.channel.sidecore == from && share.channel.targets.contains(&to))
            .filter(|share| self.works(share) && self.is_free(share))
            .collect();
        here.sort_by(|a, b| (b.channel.work, &a.channel.id).cmp(&(a.channel.work, &b.channel.id)));
        here.truncate(MOVES_MAX);
        here.into_iter().map(|share| share.moved(to, Reason::Gather)).collect()
    }

    /// Whether a channel has had something to do lately.
    fn works(&self, share: &Share<'_, Id>) -> bool {
        self.worked.contains_key(&share.channel.id)
    }

    /// Whether a channel has been where it is for long enough.
    fn is_free(&self, share: &Share<'_, Id>) -> bool {
        !self.moved.contains_key(&share.channel.id)
    }
}

impl<Id: Clone> Share<'_, Id> {
    fn moved(&self, to: usize, reason: Reason) -> Move<Id> {
        let Channel { id, sidecore, .. } = self.channel;
        Move { channel: id.clone(), from: *sidecore, to, reason, load_permille: self.ppm / 1000 }
    }
}

/// Each channel's part of its sidecore's time, in thousandths.
#[must_use]
pub fn loads_permille<Id>(sidecores: &[Sidecore], channels: &[Channel<Id>]) -> Vec<u32> {
    shares(&busy_ppm(sidecores), channels).into_iter().map(|share| share.ppm / 1000).collect()
}

fn busy_ppm(sidecores: &[Sidecore]) -> Vec<u32> {
    sidecores.iter().map(|sidecore| sidecore.busy_permille.min(1000) * 1000).collect()
}

/// Each channel's part of its sidecore's busy time, by what it was served.
fn shares<'a, Id>(busy: &[u32], channels: &'a [Channel<Id>]) -> Vec<Share<'a, Id>> {
    let mut sums = vec![0u64; busy.len()];
    for channel in channels {
        if let Some(sum) = sums.get_mut(channel.sidecore) {
            *sum = sum.saturating_add(channel.work);
        }
    }
    channels
        .iter()
        .map(|channel| Share { channel, ppm: share_ppm(busy, &sums, channel.sidecore, channel.work) })
        .collect()
}

fn share_ppm(busy: &[u32], sums: &[u64], sidecore: usize, work: u64) -> u32 {
    match (busy.get(sidecore), sums.get(sidecore)) {
        (Some(&busy), Some(&sum)) if sum > 0 => {
            let part = u128::from(busy) * u128::from(work) / u128::from(sum);
            u32::try_from(part).unwrap_or(busy)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
