use alloc::vec::Vec;

use crate::heap::Heap;
use crate::seeded::{self, Bug};
use crate::standing::{Member, Pool, Standing};
use crate::{NotBefore, Program, QosError, SECOND_NS};

/// Whose turn it is on one device, among the channels of one sidecore.
///
/// Each channel has a place in its table. The sidecore says what changes: a channel has requests ([`Self::ready`]), has none
/// ([`Self::idle`]), may not take any before a time ([`Self::throttle`]), or cannot go on for now ([`Self::block`]). It asks for
/// the [next](Self::next) turn as long as the device's window has room, and says afterwards what the turn cost
/// ([`Self::charge`]).
#[derive(Debug, Clone)]
pub struct Scheduler {
    entries: Vec<Entry>,
    /// Ready channels with a reservation, by the time at which their next claim falls due.
    reserved: Heap,
    /// Ready channels, by what they have had for their share.
    shared: Heap,
    /// Channels that wait for a limit, by the time at which it allows more.
    throttled: Heap,
    /// The most that any channel has had for its share.
    virtual_time: u64,
    /// Cost of reserved turns since a shared one. Below 0: a forced turn was larger than its part.
    since_shared: i64,
    /// Those who are ready.
    pool: Pool,
    /// The time that was last told.
    now_ns: u64,
    /// Channels that are neither idle nor gone.
    awake: u32,
}

/// A channel, as the scheduler knows it.
#[derive(Debug, Clone, Default)]
struct Entry {
    state: State,
    /// Cost units a second; 0 for none.
    reservation: u64,
    share: u64,
    /// mClock's R tag: when the next claim on the reservation falls due, and the part of a nanosecond beyond.
    claim_ns: u64,
    claim_rest: u64,
    /// mClock's P tag: what it has had for its share, and the part beyond.
    had: u64,
    had_rest: u64,
    member: Member,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Nobody sits here.
    #[default]
    Free,
    /// It has no requests.
    Idle,
    /// It has requests, and may go.
    Ready,
    /// It has requests, and waits for room of its own.
    Blocked,
    /// It has requests, and waits for its limit.
    Throttled,
}

/// Why a turn was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The channel is behind its reservation.
    Reserved,
    /// It has had the least for its share.
    Shared,
}

/// A channel's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Whose.
    pub place: u16,
    /// Why.
    pub phase: Phase,
    /// A reservation had to wait for it.
    forced: bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A channel's turn.
    Turn(Turn),
    /// Nobody may go before this time, in nanoseconds: all that have requests wait for their limits.
    NotBefore(u64),
    /// Nobody has requests, or nobody could go on with them.
    Nobody,
}

/// What a unit of cost is worth in [`Entry::had`], for a share of 1.
const HAD_SCALE: u64 = 1 << 10;
/// Where [`Entry::had`] is brought back from, long before it overflows.
const HAD_MAX: u64 = 1 << 62;
/// Reserved turns may cost so much before a shared one is due: as much as 256 reads of 4 KiB by the default model.
const RESERVED_RUN: i64 = 256 << 10;
/// How much of its reservation a channel that waited for its limit or for room may catch up with.
const CATCH_UP_NS: u64 = 1_000_000;

impl Scheduler {
    /// One part in so many of the device is never reserved.
    pub const SHARED_PART: u32 = 32;

    /// A table of `places` places, all free.
    #[must_use]
    pub fn new(places: u16) -> Self {
        let mut entries = Vec::new();
        entries.resize_with(usize::from(places), Entry::default);
        Self {
            entries,
            reserved: Heap::new(places),
            shared: Heap::new(places),
            throttled: Heap::new(places),
            virtual_time: 0,
            since_shared: 0,
            pool: Pool::default(),
            now_ns: 0,
            awake: 0,
        }
    }

    /// Seats a channel, without requests for now.
    ///
    /// # Errors
    /// [`QosError::NoPlace`]: the table ends before that place.
    pub fn add(&mut self, place: u16, program: &Program) -> Result<(), QosError> {
        self.remove(place);
        let places = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        let had = self.level();
        let entry = self.entries.get_mut(usize::from(place)).ok_or(QosError::NoPlace { place, places })?;
        *entry = Entry {
            state: State::Idle,
            reservation: program.reservation,
            share: u64::from(program.share),
            had,
            ..Entry::default()
        };
        Ok(())
    }

    /// Makes the table larger. Allocates, which nothing else here does.
    pub fn make_room(&mut self, places: u16) {
        if usize::from(places) > self.entries.len() {
            self.entries.resize_with(usize::from(places), Entry::default);
            for heap in [&mut self.reserved, &mut self.shared, &mut self.throttled] {
                heap.make_room(places);
            }
        }
    }

    /// Whether a channel sits at this place.
    #[must_use]
    pub fn contains(&self, place: u16) -> bool {
        self.entries.get(usize::from(place)).is_some_and(|entry| entry.state != State::Free)
    }

    /// Frees a place.
    pub fn remove(&mut self, place: u16) {
        self.rest(place, State::Idle);
        if let Some(entry) = self.entries.get_mut(usize::from(place)) {
            *entry = Entry::default();
        }
    }

    /// A channel's program has changed (Q3). What it has had for its share stays; what it is behind or ahead of its
    /// reservation stays as an amount of cost, and so is a shorter time under a larger reservation.
    pub fn retune(&mut self, place: u16, program: &Program, now_ns: u64) {
        let Some(entry) = self.entries.get_mut(usize::from(place)) else { return };
        if entry.state == State::Free {
            return;
        }
        let (old, new) = (entry.reservation, program.reservation);
        entry.claim_ns = if old == 0 || new == 0 {
            now_ns
        } else if entry.claim_ns >= now_ns {
            now_ns.saturating_add(rescale(entry.claim_ns - now_ns, old, new))
        } else {
            now_ns.saturating_sub(rescale(now_ns - entry.claim_ns, old, new))
        };
        entry.claim_rest = 0;
        entry.had_rest = 0;
        let ready = entry.state == State::Ready;
        if ready {
            self.pool.leave(&mut entry.member, old, entry.share, now_ns);
        }
        entry.reservation = new;
        entry.share = u64::from(program.share);
        if ready {
            self.pool.join(&mut entry.member, entry.share, now_ns);
        }
        if entry.state == State::Ready {
            self.enter_heaps(place);
        }
    }

    /// A channel has requests and may go. Says nothing new of one that is ready already.
    #[inline]
    pub fn ready(&mut self, place: u16, now_ns: u64) {
        let level = self.level();
        let Some(entry) = self.entries.get_mut(usize::from(place)) else { return };
        // An idle channel claims nothing, and neither its reservation nor its share adds up meanwhile (Q2). One that wanted
        // to go may catch up with a little of what it was late for.
        let claims_from_ns = match entry.state {
            State::Free | State::Ready => return,
            State::Idle if seeded::is(Bug::TagDriftAfterIdle) => 0,
            State::Idle => now_ns,
            State::Blocked | State::Throttled => now_ns.saturating_sub(CATCH_UP_NS),
        };
        if entry.claim_ns < claims_from_ns {
            entry.claim_ns = claims_from_ns;
            entry.claim_rest = 0;
        }
        entry.had = entry.had.max(level);
        self.awake += u32::from(entry.state == State::Idle);
        entry.state = State::Ready;
        self.now_ns = now_ns;
        self.pool.join(&mut entry.member, entry.share, now_ns);
        self.throttled.remove(place);
        self.enter_heaps(place);
    }

    /// A channel has no requests.
    #[inline]
    pub fn idle(&mut self, place: u16) {
        self.rest(place, State::Idle);
    }

    /// A channel has requests, and cannot go on with them until something of its own has ended. It is asked no more until it is
    /// [ready](Self::ready) again.
    #[inline]
    pub fn block(&mut self, place: u16) {
        self.rest(place, State::Blocked);
    }

    /// A channel has requests that its limits do not afford before then. It becomes ready by itself.
    #[inline]
    pub fn throttle(&mut self, place: u16, NotBefore(until_ns): NotBefore) {
        if self.rest(place, State::Throttled) {
            // It was refused by this reading of the clock, so the next answer is a later one's, whatever it was told: where the
            // time in which a limit counts has come to its end, that may lie behind.
            self.throttled.set(place, until_ns.max(self.now_ns.saturating_add(1)));
        }
    }

    #[inline]
    fn rest(&mut self, place: u16, state: State) -> bool {
        let Some(entry) = self.entries.get_mut(usize::from(place)) else { return false };
        match entry.state {
            State::Free => return false,
            State::Ready => {
                self.pool.leave(&mut entry.member, entry.reservation, entry.share, self.now_ns);
                self.shared.remove(place);
                self.reserved.remove(place);
            }
            State::Throttled => self.throttled.remove(place),
            State::Idle => self.awake += 1,
            State::Blocked => {}
        }
        self.awake -= u32::from(state == State::Idle);
        entry.state = state;
        true
    }

    /// A channel whose limits may afford its requests by now, and which is ready from now on.
    #[inline]
    pub fn due(&mut self, now_ns: u64) -> Option<u16> {
        // There is no later reading than the last: who waits for more than it waits for ever.
        let place = self.throttled.first().filter(|due| due.key <= now_ns && due.key < u64::MAX)?.place;
        self.ready(place, now_ns);
        Some(place)
    }

    /// Whose turn it is. The same again, until it is charged or its state changes.
    #[inline]
    pub fn next(&mut self, now_ns: u64) -> Next {
        self.now_ns = now_ns;
        while self.due(now_ns).is_some() {}
        let claims = self.reserved.first().filter(|claim| claim.key <= now_ns);
        let forced = self.since_shared >= RESERVED_RUN;
        match (claims, self.shared.first()) {
            (Some(claim), _) if !forced => {
                Next::Turn(Turn { place: claim.place, phase: Phase::Reserved, forced: false })
            }
            (claims, Some(least)) => {
                Next::Turn(Turn { place: least.place, phase: Phase::Shared, forced: claims.is_some() })
            }
            (_, None) => self.throttled.first().map_or(Next::Nobody, |due| Next::NotBefore(due.key)),
        }
    }

    /// A turn has cost so much. Before the channel's state is changed, if it does.
    #[inline]
    pub fn charge(&mut self, turn: Turn, cost: u64) {
        let Some(entry) = self.entries.get_mut(usize::from(turn.place)) else { return };
        if entry.state == State::Free {
            return;
        }
        let signed = i64::try_from(cost).unwrap_or(i64::MAX);
        match turn.phase {
            Phase::Reserved => {
                self.since_shared = self.since_shared.saturating_add(signed);
                let earned = u128::from(cost) * u128::from(SECOND_NS) + u128::from(entry.claim_rest);
                let reservation = u128::from(entry.reservation.max(1));
                let wait_ns = u64::try_from(earned / reservation).unwrap_or(u64::MAX);
                entry.claim_ns = entry.claim_ns.saturating_add(wait_ns);
                entry.claim_rest = u64::try_from(earned % reservation).unwrap_or(0);
            }
            // mClock leaves the R tag alone here: what is got beyond the reservation is not taken off it.
            Phase::Shared => {
                let part = signed.saturating_mul(i64::from(Self::SHARED_PART) - 1);
                // Only a forced turn was taken from somebody, who gets it back.
                let least = if turn.forced { i64::MIN } else { self.since_shared.min(0) };
                self.since_shared = self.since_shared.saturating_sub(part).max(least);
            }
        }
        entry.member.got(cost);
        self.pool.give(cost);
        if !seeded::is(Bug::StrictPriority) {
            let share = entry.share.max(1);
            let had = cost.saturating_mul(HAD_SCALE).saturating_add(entry.had_rest);
            entry.had = entry.had.saturating_add(had / share);
            entry.had_rest = had % share;
        }
        self.virtual_time = self.virtual_time.max(entry.had);
        if entry.state == State::Ready {
            self.enter_heaps(turn.place);
        }
        if self.virtual_time >= HAD_MAX {
            self.rebase();
        }
    }

    /// When the first channel that waits for its limit may go on.
    #[inline]
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        self.throttled.first().map(|due| due.key)
    }

    /// When the next claim of a channel on its reservation is due, which may be past; none without a reservation.
    #[must_use]
    pub fn claim_ns(&self, place: u16) -> Option<u64> {
        let entry = self.entries.get(usize::from(place))?;
        (entry.state != State::Free && entry.reservation > 0).then_some(entry.claim_ns)
    }

    /// How a channel has fared since this was last asked.
    pub fn take_standing(&mut self, place: u16, now_ns: u64) -> Standing {
        let Some(entry) = self.entries.get_mut(usize::from(place)) else { return Standing::default() };
        if entry.state == State::Ready {
            self.pool.settle(&mut entry.member, entry.reservation, entry.share, now_ns);
        }
        entry.member.take()
    }

    /// Whether no channel has requests.
    #[inline]
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.awake == 0
    }

    /// How many channels have requests and may go.
    #[inline]
    #[must_use]
    pub fn backlogged(&self) -> usize {
        self.shared.len()
    }

    /// Where a channel that asks anew begins: where the one stands that has had the least of those that wait.
    #[inline]
    fn level(&self) -> u64 {
        self.shared.first().map_or(self.virtual_time, |least| least.key)
    }

    #[inline]
    fn enter_heaps(&mut self, place: u16) {
        let Some(entry) = self.entries.get(usize::from(place)) else { return };
        self.shared.set(place, entry.had);
        if entry.reservation > 0 {
            self.reserved.set(place, entry.claim_ns);
        } else {
            self.reserved.remove(place);
        }
    }

    /// Brings all that was had back to near 0. What lies below the level would be raised to it on asking anew all the same.
    #[cold]
    fn rebase(&mut self) {
        let by = self.level();
        for entry in &mut self.entries {
            entry.had = entry.had.saturating_sub(by);
        }
        self.virtual_time = self.virtual_time.saturating_sub(by);
        self.shared.lower(by);
    }
}

/// A time at one reservation, as the time that the same cost takes at another.
fn rescale(time_ns: u64, old: u64, new: u64) -> u64 {
    let scaled = u128::from(time_ns) * u128::from(old) / u128::from(new.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
