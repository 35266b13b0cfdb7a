use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::share::Share;
use super::{Changed, END_NS, Group, Line, Terms, ZERO_NS, place};
use crate::program::Measure;
use crate::{Credit, Io, Limits, NotBefore, Tally};

/// A channel's part of a [`Group`].
#[derive(Debug)]
pub struct Lease {
    group: Arc<Group>,
    /// The group's, when its terms were last looked at.
    epoch: u64,
    /// The time that `usable` of the parts is of.
    as_of_ns: u64,
    /// What is held of the limits that there are. The places behind are of limits that there are not.
    parts: [Part; Limits::COUNT],
    count: usize,
    /// What may go without a look, of what is held, until so long after `as_of_ns`.
    kept: Credit,
    kept_ns: u64,
    /// What went so, and is not taken off what is held yet.
    skimmed: Tally,
}

/// What is held of one limit.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Which of the group's lines.
    line: usize,
    measure: Measure,
    share: Share,
    /// Tokens that may be used now, without a further look; all that there are when there is no limit.
    usable: u64,
    /// Tokens at the end of what is held that may be used for a while, and when the first of them lapses.
    kept: u64,
    kept_until_ns: u64,
    terms: Terms,
    /// What is used first. Empty only when both are.
    first: Stretch,
    second: Stretch,
}

/// Tokens that were leased and not used: the end of a stretch of the line.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    /// None of the tokens lies before this.
    from_ns: u64,
    to_ns: u64,
    tokens: u64,
}

impl Lease {
    /// Takes part in a group with a weight beside those of its other channels. Nothing is leased yet.
    #[must_use]
    pub fn new(group: Arc<Group>, share: u32) -> Self {
        let epoch = group.epoch.load(Ordering::Acquire);
        let parts = core::array::from_fn(|line| Part::new(line, &group, share));
        let (kept, skimmed) = (Credit::NONE, Tally::default());
        let mut lease = Self { group, epoch, as_of_ns: u64::MAX, parts, count: 0, kept, kept_ns: 0, skimmed };
        lease.order();
        lease
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Whether the group's limits are those that were last looked at.
    #[inline]
    #[must_use]
    pub fn is_current(&self) -> bool {
        // Pairs with `Group::retune`.
        self.epoch == self.group.epoch.load(Ordering::Acquire)
    }

    /// Has another weight from now on.
    pub fn set_share(&mut self, share: u32) {
        self.parts.iter_mut().for_each(|part| part.share.set(share));
    }

    /// Puts the limits that there are in front.
    fn order(&mut self) {
        self.parts.sort_unstable_by_key(|part| (part.terms.per_second == 0, part.line));
        self.count = self.parts.iter().filter(|part| part.terms.per_second > 0).count();
    }

    #[inline]
    fn held(&self) -> &[Part] {
        self.parts.get(..self.count).unwrap_or(&self.parts)
    }

    #[inline]
    fn held_mut(&mut self) -> &mut [Part] {
        // Never more than there are places.
        let count = self.count.min(Limits::COUNT);
        &mut self.parts[..count]
    }

    /// Takes what a request takes, if what is held and may be used for a while yet covers it: most requests that come one at a time
    /// go so, and the line is looked at once in many of them. False: nothing was taken.
    #[inline]
    #[must_use]
    pub fn skim(&mut self, io: Io, now_ns: u64) -> bool {
        let in_time = now_ns.wrapping_sub(self.as_of_ns) <= self.kept_ns;
        let taken = in_time && self.is_current() && self.kept.take(io);
        if taken {
            self.skimmed.add(io);
        }
        taken
    }

    /// Takes what was skimmed off what is held. Nothing more is skimmed until the next look.
    fn redeem(&mut self) {
        self.kept = Credit::NONE;
        if self.skimmed.is_empty() {
            return;
        }
        let skimmed = core::mem::take(&mut self.skimmed);
        for part in self.held_mut() {
            // What went was of the end that is kept, so what lies before it is given up.
            part.first.tokens = part.first.tokens.min(part.kept);
            part.usable = part.usable.min(part.kept);
            part.take(part.measure.sum(&skimmed));
        }
    }

    /// Whether the group affords a request now; leases what it takes if need be.
    ///
    /// # Errors
    /// [`NotBefore`]: when it will. What was leased is kept for then.
    #[inline]
    pub fn affords(&mut self, io: Io, now_ns: u64) -> Result<(), NotBefore> {
        if !self.skimmed.is_empty() {
            self.redeem();
        }
        let is_new = self.as_of_ns != now_ns || !self.is_current();
        let enough = |part: &Part| u64::from(part.measure.tokens(io)) <= part.usable;
        if !is_new && self.held().iter().all(enough) { Ok(()) } else { self.look(io, now_ns) }
    }

    /// Takes what a request takes, which the group [affords](Self::affords).
    #[inline]
    pub fn charge(&mut self, io: Io) {
        if !self.kept.take(io) {
            self.redeem();
        }
        for part in self.held_mut() {
            let tokens = u64::from(part.measure.tokens(io));
            part.take(tokens);
            // It may be of the end that is kept.
            part.kept = part.kept.saturating_sub(tokens);
        }
    }

    /// What may be used without another look, at the time of the last one. What goes by it is [settled](Self::settle) before the
    /// next one. A retune meanwhile finds what was used before it.
    #[inline]
    #[must_use]
    pub fn credit(&self) -> Credit {
        let within = |credit: Credit, part: &Part| credit.within(part.usable, part.measure.is_of_bytes());
        self.held().iter().fold(Credit::UNLIMITED, within)
    }

    /// Takes what requests take that went by a [credit](Self::credit).
    #[inline]
    pub fn settle(&mut self, tally: &Tally) {
        self.redeem();
        for part in self.held_mut() {
            part.take(part.measure.sum(tally));
        }
    }

    /// Gives back what nobody has leased behind; the rest lapses.
    pub fn release(&mut self) {
        self.redeem();
        let Self { group, parts, .. } = self;
        for part in parts {
            if let Some(line) = group.lines.get(part.line) {
                part.release(line);
            }
        }
    }

    /// Sees what may be used now, and leases more.
    #[inline(never)]
    fn look(&mut self, io: Io, now_ns: u64) -> Result<(), NotBefore> {
        self.redeem();
        let epoch = self.group.epoch.load(Ordering::Acquire);
        if epoch != self.epoch {
            self.epoch = epoch;
            self.renew();
        }
        self.as_of_ns = now_ns;
        let now_ns = place(now_ns);
        let mut ready_ns = 0;
        let Self { group, parts, count, .. } = self;
        for part in parts.iter_mut().take(*count) {
            let Some(line) = group.lines.get(part.line) else { continue };
            let tokens = u64::from(part.measure.tokens(io));
            ready_ns = ready_ns.max(part.ready_ns(line, tokens, now_ns));
            part.usable = part.mature(now_ns);
            (part.kept, part.kept_until_ns) = part.keep(now_ns);
        }
        if ready_ns > now_ns {
            return Err(NotBefore(ready_ns - ZERO_NS));
        }
        let (mut kept, mut until_ns) = (Credit::UNLIMITED, END_NS);
        for part in self.held() {
            kept = kept.within(part.kept, part.measure.is_of_bytes());
            until_ns = until_ns.min(part.kept_until_ns);
        }
        (self.kept, self.kept_ns) = (kept, until_ns.saturating_sub(now_ns));
        Ok(())
    }

    /// Goes on by the limits in force.
    #[cold]
    fn renew(&mut self) {
        let Self { group, parts, .. } = self;
        for part in parts {
            if let Some(line) = group.lines.get(part.line) {
                part.renew(line);
            }
        }
        self.order();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release();
    }
}

impl Part {
    fn new(number: usize, group: &Group, share: u32) -> Self {
        let line = &group.lines[number];
        let (_, terms) = line.look();
        let usable = if terms.per_second > 0 { 0 } else { u64::MAX };
        let (first, second) = Default::default();
        let (measure, share) = (line.measure, Share::new(share));
        Self { line: number, measure, share, usable, kept: 0, kept_until_ns: 0, terms, first, second }
    }

    /// When so many tokens may be used, which are held from now on.
    fn ready_ns(&mut self, line: &Line, tokens: u64, now_ns: u64) -> u64 {
        self.lapse(now_ns);
        if tokens == 0 {
            return 0;
        }
        while self.first.tokens + self.second.tokens < tokens {
            let (turn_ns, slice) = self.share.turn(line, &self.terms, now_ns);
            if turn_ns > now_ns {
                return turn_ns;
            }
            if self.lease(line, tokens, slice, now_ns).is_err() {
                self.renew(line);
                if self.terms.per_second == 0 {
                    return 0;
                }
                self.lapse(now_ns);
            }
        }
        let Self { first, second, terms, .. } = self;
        let held = if tokens <= first.tokens { *first } else { second.after(first.tokens) };
        if held.to_ns <= now_ns + terms.half_ns {
            return 0;
        }
        let end_ns = held.to_ns - terms.length_down_ns(held.tokens - tokens);
        end_ns.saturating_sub(terms.half_ns.max(terms.length_down_ns(tokens)))
    }

    /// How many tokens may be used now, of the first stretch, by requests that are not large.
    #[inline]
    fn mature(&self, now_ns: u64) -> u64 {
        let Self { first, terms, .. } = self;
        if terms.per_second == 0 {
            return u64::MAX;
        }
        let beyond_ns = first.to_ns.saturating_sub(now_ns + terms.half_ns);
        if beyond_ns == 0 {
            return first.tokens;
        }
        if beyond_ns >= terms.length_up_ns(first.tokens) {
            return 0;
        }
        first.tokens.saturating_sub(terms.worth_up(beyond_ns))
    }

    /// How many tokens of the first stretch may be used for a while, and until when. Of a stretch whose start lapses just now that is
    /// its last quarter.
    #[inline]
    fn keep(&self, now_ns: u64) -> (u64, u64) {
        let Self { first, terms, usable, .. } = self;
        if terms.per_second == 0 {
            return (u64::MAX, END_NS);
        }
        if first.tokens == 0 {
            return (0, now_ns);
        }
        let length_ns = first.to_ns.saturating_sub(now_ns.saturating_sub(terms.half_ns)) / 4;
        let from_ns = first.to_ns - length_ns;
        if first.from_ns >= from_ns {
            return (*usable, first.from_ns + terms.half_ns);
        }
        (terms.worth_down(length_ns).min(*usable), from_ns + terms.half_ns)
    }

    /// Forgets what was not used in time.
    fn lapse(&mut self, now_ns: u64) {
        let Self { first, second, terms, .. } = self;
        let from_ns = now_ns.saturating_sub(terms.half_ns);
        first.lapse(from_ns, terms);
        if first.tokens == 0 {
            *first = core::mem::take(second);
            first.lapse(from_ns, terms);
        }
    }

    /// Leases what `tokens` are more than is held, or all of them when what is held will have lapsed by the time that the rest
    /// may be used; and a slice, if that is more.
    fn lease(&mut self, line: &Line, tokens: u64, slice: u64, now_ns: u64) -> Result<(), Changed> {
        let Self { first, second, terms, share, .. } = self;
        if second.tokens > 0 {
            *first = core::mem::take(second);
        }
        let missing = tokens - first.tokens;
        let before_ns = terms.half_ns.max(terms.length_down_ns(tokens)) + terms.half_ns;
        let held_from_ns = first.to_ns.saturating_sub(terms.length_up_ns(first.tokens));
        let in_time = |at_ns: u64| {
            let end_ns = at_ns.saturating_add(terms.length_up_ns(missing));
            first.tokens > 0 && end_ns.saturating_sub(before_ns) <= held_from_ns
        };
        // Whole requests of this size, so that nothing is left over.
        let slice = (slice / tokens).max(1) * tokens;
        let wanted = |at_ns| if in_time(at_ns) { missing.max(slice) } else { slice };
        let (from_ns, to_ns, leased) = line.lease(terms, now_ns, wanted)?;
        let place = if in_time(from_ns) { second } else { first };
        *place = Stretch { from_ns, to_ns, tokens: leased };
        share.leased(line, terms, to_ns - from_ns);
        Ok(())
    }

    #[inline]
    fn take(&mut self, tokens: u64) {
        let Self { usable, first, second, .. } = self;
        *usable = usable.saturating_sub(tokens);
        if tokens < first.tokens {
            first.tokens -= tokens;
        } else {
            let beyond = tokens - first.tokens;
            *first = core::mem::take(second);
            first.tokens = first.tokens.saturating_sub(beyond);
        }
    }

    fn release(&mut self, line: &Line) {
        for Stretch { to_ns, tokens, .. } in
            [core::mem::take(&mut self.second), core::mem::take(&mut self.first)]
        {
            if tokens > 0 {
                self.usable = 0;
                line.take_back(&self.terms, to_ns, tokens);
            }
        }
    }

    /// Goes on by the terms in force. What is held is carried over from those just before them.
    fn renew(&mut self, line: &Line) {
        let (_, terms) = line.look();
        if terms.epoch == self.terms.epoch {
            return;
        }
        let kept = terms.epoch == self.terms.epoch + 1 && terms.per_second > 0 && terms.before > 0;
        for stretch in [&mut self.first, &mut self.second] {
            if kept && stretch.tokens > 0 {
                stretch.from_ns = terms.carry_over(stretch.from_ns);
                stretch.to_ns = terms.carry_over(stretch.to_ns);
            } else {
                *stretch = Stretch::default();
            }
        }
        self.usable = if terms.per_second > 0 { 0 } else { u64::MAX };
        self.terms = terms;
    }
}

impl Stretch {
    /// Forgets what lies before `from_ns`.
    fn lapse(&mut self, from_ns: u64, terms: &Terms) {
        if self.from_ns >= from_ns || self.tokens == 0 {
            return;
        }
        self.from_ns = self.to_ns.saturating_sub(terms.length_up_ns(self.tokens));
        if self.from_ns >= from_ns {
            return;
        }
        // It is shorter than what the tokens are worth.
        self.tokens = self.tokens.min(terms.worth_down(self.to_ns.saturating_sub(from_ns)));
    }

    /// The same end, counted with the tokens before it.
    fn after(self, tokens: u64) -> Self {
        Self { tokens: self.tokens + tokens, ..self }
    }
}
