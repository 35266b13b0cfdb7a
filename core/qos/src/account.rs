use crate::program::Measure;
use crate::{Bucket, Credit, Io, Limits, Program, Rate, Tally};

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
        let mut account = Self { program, meters: Meter::none(), count: 0 };
        account.place(&Meter::none(), now_ns);
        account
    }

    /// Runs another program from now on. A limit that both programs have keeps what is left of it and what is owed, within the
    /// new burst; one that is new begins with a full burst (Q3).
    pub fn retune(&mut self, program: Program, now_ns: u64) {
        let old = core::mem::replace(&mut self.meters, Meter::none());
        self.program = program;
        self.place(&old, now_ns);
    }

    fn place(&mut self, old: &[Meter], now_ns: u64) {
        let limits = self.program.limits.measures();
        let limited = limits.into_iter().filter_map(|(rate, measure)| Some((rate?, measure)));
        self.count = 0;
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
        if self.running().iter().all(|meter| meter.affords(io)) {
            Ok(())
        } else {
            Err(self.affordable_at(io))
        }
    }

    /// Takes what a request takes, affordable or not, and gives its cost.
    #[inline]
    pub fn charge(&mut self, io: Io) -> u32 {
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
        let mut affordable = true;
        for Meter { bucket, measure } in self.running_mut() {
            let tokens = measure.tokens(io);
            bucket.refill(now_ns);
            affordable &= tokens == 0 || bucket.affords(tokens);
            bucket.take(tokens.into());
        }
        affordable
    }

    /// Gives back what a request took that does not go after all, as if it had never been weighed.
    #[cold]
    pub fn give_back(&mut self, io: Io) {
        for Meter { bucket, measure } in self.running_mut() {
            bucket.give_back(measure.tokens(io).into());
        }
    }

    /// What every limit affords without another look, as of the last refill. What goes by it is [settled](Self::settle) before the
    /// next one.
    #[inline]
    #[must_use]
    pub fn credit(&self) -> Credit {
        let within =
            |credit: Credit, meter: &Meter| credit.within(meter.bucket.spare(), meter.measure.is_of_bytes());
        self.running().iter().fold(Credit::UNLIMITED, within)
    }

    /// Takes what requests take that went by a [credit](Self::credit).
    #[inline]
    pub fn settle(&mut self, tally: &Tally) {
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
mod tests;
