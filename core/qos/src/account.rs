use crate::program::Measure;
use crate::{Bucket, Credit, Direction, Io, Limits, Program, Rate, SECOND_NS, Tally};

/// Not affordable before this time, if nothing else is admitted meanwhile. In nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotBefore(pub u64);

/// A channel's program, running: what it may still take of each limit.
#[derive(Debug, Clone)]
pub struct Account {
    program: Program,
    /// The limits that there are, in the order of [`Limits::measures`].
    meters: [Meter; Limits::COUNT],
    /// How many of the places at the front are in use; the others count nothing.
    count: usize,
    /// At any later time every bucket is full, unless something is taken before; the end of time when that is not known.
    full_after_ns: u64,
    /// A request that every bucket, full at this time, has still to be charged for.
    skimmed: Option<(u64, Io)>,
    price: Price,
}

/// How long buckets take at most to earn what a request has taken, in fractions of a nanosecond.
#[derive(Debug, Clone, Copy, Default)]
struct Price {
    read: Parts,
    write: Parts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    per_op: u64,
    per_byte: u64,
}

/// One limit, running.
#[derive(Debug, Clone)]
struct Meter {
    bucket: Bucket,
    measure: Measure,
}

impl Account {
    /// Starts a program, with full bursts.
    #[must_use]
    pub fn new(program: Program, now_ns: u64) -> Self {
        let mut account = Self {
            program,
            meters: Meter::none(),
            count: 0,
            full_after_ns: u64::MAX,
            skimmed: None,
            price: Price::default(),
        };
        account.place(&Meter::none(), now_ns);
        account
    }

    /// Runs another program from now on. A limit that both programs have keeps what is left of it and what is owed, within the
    /// new burst; one that is new begins with a full burst (Q3).
    pub fn retune(&mut self, program: Program, now_ns: u64) {
        self.charge_skimmed();
        let old = core::mem::replace(&mut self.meters, Meter::none());
        self.program = program;
        self.place(&old, now_ns);
    }

    fn place(&mut self, old: &[Meter], now_ns: u64) {
        let limits = self.program.limits.measures();
        let limited = limits.into_iter().filter_map(|(rate, measure)| Some((rate?, measure)));
        self.count = 0;
        (self.full_after_ns, self.price) = (u64::MAX, Price::default());
        for (place, (rate, measure)) in self.meters.iter_mut().zip(limited) {
            let kept = old.iter().find(|meter| meter.measure == measure);
            let bucket = match kept {
                Some(meter) => {
                    let mut bucket = meter.bucket.clone();
                    bucket.retune(rate, now_ns);
                    bucket
                }
                None => Bucket::new(rate, now_ns),
            };
            self.price.add(&measure, rate);
            *place = Meter { bucket, measure };
            self.count += 1;
        }
    }

    #[inline]
    fn running(&self) -> &[Meter] {
        self.meters.get(..self.count).unwrap_or(&self.meters)
    }

    #[inline]
    fn running_mut(&mut self) -> &mut [Meter] {
        // Never more than there are places.
        let count = self.count.min(Limits::COUNT);
        &mut self.meters[..count]
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Whether there is any limit.
    #[inline]
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.count > 0
    }

    /// Earns what the time is worth. Once a turn, before its first request.
    #[inline]
    pub fn refill(&mut self, now_ns: u64) {
        self.charge_skimmed();
        for meter in self.running_mut() {
            meter.bucket.refill(now_ns);
        }
    }

    /// Whether every limit affords a request, as of the last refill.
    ///
    /// # Errors
    /// [`NotBefore`]: when they will.
    #[inline]
    pub fn affords(&self, io: Io) -> Result<(), NotBefore> {
        debug_assert!(self.skimmed.is_none(), "a look before a refill");
        if self.running().iter().all(|meter| meter.affords(io)) {
            Ok(())
        } else {
            Err(self.affordable_at(io))
        }
    }

    /// Takes what a request takes, affordable or not, and gives its cost.
    #[inline]
    pub fn charge(&mut self, io: Io) -> u32 {
        self.charge_skimmed();
        self.full_after_ns = u64::MAX;
        for meter in self.running_mut() {
            meter.bucket.take(meter.measure.tokens(io).into());
        }
        self.program.cost.cost(io)
    }

    /// Takes what a request takes if every limit affords it, and gives its cost.
    ///
    /// # Errors
    /// [`NotBefore`]: nothing was taken.
    #[inline]
    pub fn admit(&mut self, io: Io) -> Result<u32, NotBefore> {
        self.affords(io)?;
        Ok(self.charge(io))
    }

    /// Earns what the time is worth, takes what a request takes, and says whether every limit afforded it: in one pass, since the answer
    /// is mostly yes. What was not is [given back](Self::give_back), unless it goes in any case.
    #[inline]
    #[must_use]
    pub fn open(&mut self, io: Io, now_ns: u64) -> bool {
        self.charge_skimmed();
        let (mut affordable, mut full) = (true, true);
        for Meter { bucket, measure } in self.running_mut() {
            let tokens = measure.tokens(io);
            bucket.refill(now_ns);
            full &= bucket.is_full_at(now_ns);
            affordable &= tokens == 0 || bucket.affords(tokens);
            bucket.take(tokens.into());
        }
        self.full_after_ns = if full { now_ns.saturating_add(self.price.of(io)) } else { u64::MAX };
        affordable
    }

    /// Whether every bucket is known to be full by now, and so affords anything.
    #[inline]
    #[must_use]
    pub fn is_full(&self, now_ns: u64) -> bool {
        now_ns > self.full_after_ns
    }

    /// Takes what a request takes of buckets that [are full](Self::is_full), by noting it down: when they are full again before the
    /// next one comes, which is told by one comparison, it makes no difference any more. When they are not, they are charged then, as of
    /// this time.
    #[inline]
    pub fn skim(&mut self, io: Io, now_ns: u64) {
        self.skimmed = Some((now_ns, io));
        self.full_after_ns = now_ns.saturating_add(self.price.of(io));
    }

    /// Charges what was noted down.
    #[inline]
    fn charge_skimmed(&mut self) {
        if let Some((at_ns, io)) = self.skimmed.take() {
            for Meter { bucket, measure } in self.running_mut() {
                bucket.fill(at_ns);
                bucket.take(measure.tokens(io).into());
            }
        }
    }

    /// Gives back what a request took that does not go after all, as if it had never been weighed.
    #[cold]
    pub fn give_back(&mut self, io: Io) {
        self.charge_skimmed();
        self.full_after_ns = u64::MAX;
        for Meter { bucket, measure } in self.running_mut() {
            bucket.give_back(measure.tokens(io).into());
        }
    }

    /// What every limit affords without another look, as of the last refill. What goes by it is [settled](Self::settle) before the
    /// next one.
    #[inline]
    #[must_use]
    pub fn credit(&self) -> Credit {
        debug_assert!(self.skimmed.is_none(), "a look before a refill");
        let within =
            |credit: Credit, meter: &Meter| credit.within(meter.bucket.spare(), meter.measure.is_of_bytes());
        self.running().iter().fold(Credit::UNLIMITED, within)
    }

    /// Takes what requests take that went by a [credit](Self::credit).
    #[inline]
    pub fn settle(&mut self, tally: &Tally) {
        self.charge_skimmed();
        self.full_after_ns = u64::MAX;
        for meter in self.running_mut() {
            meter.bucket.take(meter.measure.sum(tally));
        }
    }

    #[cold]
    fn affordable_at(&self, io: Io) -> NotBefore {
        let meters = self.running().iter().filter(|meter| !meter.affords(io));
        let instants = meters.map(|meter| meter.bucket.affordable_at_ns(meter.measure.tokens(io)));
        NotBefore(instants.max().unwrap_or(0))
    }
}

impl Price {
    /// Fractions of a nanosecond in one.
    const SCALE_LOG2: u32 = 20;

    /// One more bucket. The sum over all is longer than any of them takes.
    fn add(&mut self, measure: &Measure, rate: Rate) {
        let token = (SECOND_NS << Self::SCALE_LOG2).div_ceil(rate.per_second);
        for (parts, io) in [(&mut self.read, Io::read as fn(u32) -> Io), (&mut self.write, Io::write)] {
            let (none, byte) = (measure.tokens(io(0)), measure.tokens(io(1)));
            parts.per_op += u64::from(none) * token;
            parts.per_byte += u64::from(byte - none) * token;
        }
    }

    /// Whole nanoseconds that a request takes, short of one.
    #[inline]
    fn of(&self, io: Io) -> u64 {
        let Parts { per_op, per_byte } = match io.direction {
            Direction::Read => self.read,
            Direction::Write => self.write,
        };
        // Four limits at most count a request, so its parts are below 2^52, and a request of 2^32 bytes takes less than 2^85.
        let fractions = u128::from(per_byte) * u128::from(io.bytes) + u128::from(per_op);
        u64::try_from(fractions >> Self::SCALE_LOG2).unwrap_or(u64::MAX)
    }
}

impl Meter {
    fn none() -> [Self; Limits::COUNT] {
        let one = Rate { per_second: 1, burst: 1 };
        core::array::from_fn(|_| Self { bucket: Bucket::new(one, 0), measure: Measure::NOTHING })
    }

    #[inline]
    fn affords(&self, io: Io) -> bool {
        let tokens = self.measure.tokens(io);
        // What a limit does not count it does not stop, however deep in debt it is.
        tokens == 0 || self.bucket.affords(tokens)
    }
}

#[cfg(test)]
impl Account {
    /// Whether the last request was skimmed, at this time.
    pub(crate) fn is_skimmed_at(&self, now_ns: u64) -> bool {
        self.skimmed.is_some_and(|(at_ns, _)| at_ns == now_ns)
    }

    /// Whether as much is left of each limit as in another account.
    pub(crate) fn holds_as_much_as(&self, other: &Self) -> bool {
        self.running().iter().map(|meter| &meter.bucket).eq(other.running().iter().map(|meter| &meter.bucket))
    }
}

#[cfg(test)]
mod tests;
