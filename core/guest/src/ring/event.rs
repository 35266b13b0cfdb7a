//! How driver and device tell each other that there is work, without telling too often and without ever missing it.
//!
//! Both sides do the same dance, mirrored. Each owns an index that it advances and an event word that says whether, and
//! when, it wants to be woken. Whoever advances an index stores it, fences, and reads the other's event word; whoever goes
//! to sleep stores its event word, fences, and reads the other's index once more. Of two such threads at least one sees what
//! the other stored (both fences are full), so either the sleeper finds the work or the other finds that it must wake it.
//!
//! ```text
//!   guest: avail.idx ─► fence ─► read avail_event or used.flags    ┐ at least one
//!   we:    avail_event or used.flags ─► fence ─► read avail.idx    ┘ sees the other (arm)
//!
//!   we:    used.idx ─► fence ─► read used_event or avail.flags     ┐ at least one
//!   guest: used_event or avail.flags ─► fence ─► read used.idx     ┘ sees the other (should_call)
//! ```
//!
//! The dance is written once, over [`Words`], so that a model checker runs the very code that rings run.

use vfiomux_spec::virtio::split::need_event;

use crate::seeded::{self, Bug};

/// One side's view of the words through which the two sides notify each other.
pub(crate) trait Words {
    /// Reads the index that the other side advances. Acquire: what was put in the ring before it is visible.
    fn their_index(&self) -> u16;
    /// Advances our index. Release: pairs with the other side's acquire.
    fn set_our_index(&self, index: u16);
    /// Reads the event index that the other side set. Relaxed.
    fn their_event(&self) -> u16;
    /// Sets our event index. Relaxed.
    fn set_our_event(&self, index: u16);
    /// Reads whether the other side's flags ask not to be woken. Relaxed.
    fn they_are_quiet(&self) -> bool;
    /// Sets whether our flags ask not to be woken. Relaxed.
    fn set_quiet(&self, quiet: bool);
    /// Orders all before it against all after it, stores against loads too.
    fn full_fence(&self);
}

/// Asks to be woken from `next` on, then looks again. True: there is work already, do not sleep.
#[inline]
pub(crate) fn arm(words: &impl Words, event_idx: bool, next: u16) -> bool {
    if event_idx {
        words.set_our_event(next)
    } else {
        words.set_quiet(false)
    }
    // Pairs with the full fence of the other side between advancing its index and reading what was just stored: the
    // driver's (virtio 1.3 2.7.13.4.1) when a device arms, the one in `owes` when a driver does.
    if !seeded::is(Bug::MissingFence) {
        words.full_fence();
    }
    words.their_index() != next
}

/// Asks not to be woken. Only a hint: a wake-up that is under way still comes.
#[inline]
pub(crate) fn disarm(words: &impl Words, event_idx: bool, next: u16) {
    // An event index just behind is passed again only after the index has gone all the way round.
    if event_idx { words.set_our_event(next.wrapping_sub(1)) } else { words.set_quiet(true) }
}

/// What the other side was asked last, so that it is not asked again while that stands.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// The index from which on it was asked to wake us.
    from: Option<u16>,
}

impl Asked {
    /// [`arm`]; or just a look, when the other side was asked to wake us from `next` on before and not asked otherwise since.
    ///
    /// Then neither store nor fence is needed: the look after asking found nothing, so for what came since we are woken. That
    /// wake-up is either still to come, or was taken, and then what it was for is seen by this look.
    #[inline]
    pub(crate) fn arm(&mut self, words: &impl Words, event_idx: bool, next: u16) -> bool {
        let stands = self.from == Some(next) || seeded::is(Bug::StaleAsk) && self.from.is_some();
        if stands {
            return words.their_index() != next;
        }
        let found = arm(words, event_idx, next);
        self.from = (!found).then_some(next);
        found
    }

    /// [`disarm`].
    #[inline]
    pub(crate) fn disarm(&mut self, words: &impl Words, event_idx: bool, next: u16) {
        self.from = None;
        disarm(words, event_idx, next);
    }

    /// Forgets what was asked: it may not stand any more.
    pub(crate) fn forget(&mut self) {
        self.from = None;
    }
}

/// Whether the other side wants to be woken, now that our index has moved from `told` to `now`.
#[inline]
pub(crate) fn owes(words: &impl Words, event_idx: bool, now: u16, told: u16) -> bool {
    // Pairs with the full fence of the other side between storing its event word and reading our index again: the
    // driver's (virtio 1.3 2.7.14) when a device asks, the one in `arm` when a driver does.
    words.full_fence();
    if event_idx { need_event(words.their_event(), now, told) } else { !words.they_are_quiet() }
}

#[cfg(test)]
mod tests;
