use crate::QosError;

/// A hard maximum: so much a second, and so much at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Operations or bytes a second.
    pub per_second: u64,
    /// Operations or bytes that may go at once.
    pub burst: u64,
}

impl Rate {
    /// The largest rate and the largest burst: more than any device or memory moves.
    pub const MAX: u64 = 1 << 48;

    pub(crate) fn check(self, what: &'static str, what_burst: &'static str) -> Result<(), QosError> {
        within(what, self.per_second, Self::MAX)?;
        within(what_burst, self.burst, Self::MAX)
    }
}

/// Hard maxima. What is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// Operations of any kind.
    pub ops: Option<Rate>,
    /// Bytes read and written.
    pub bytes: Option<Rate>,
    /// Read operations.
    pub read_ops: Option<Rate>,
    /// Bytes read.
    pub read_bytes: Option<Rate>,
    /// Write operations.
    pub write_ops: Option<Rate>,
    /// Bytes written.
    pub write_bytes: Option<Rate>,
}

impl Limits {
    /// How many there are at most.
    pub const COUNT: usize = 6;

    pub(crate) fn check(&self) -> Result<(), QosError> {
        let Self { ops, bytes, read_ops, read_bytes, write_ops, write_bytes } = *self;
        for (rate, what, what_burst) in [
            (ops, "the limit of operations", "the burst of operations"),
            (bytes, "the limit of bytes", "the burst of bytes"),
            (read_ops, "the limit of reads", "the burst of reads"),
            (read_bytes, "the limit of bytes read", "the burst of bytes read"),
            (write_ops, "the limit of writes", "the burst of writes"),
            (write_bytes, "the limit of bytes written", "the burst of bytes written"),
        ] {
            rate.map_or(Ok(()), |rate| rate.check(what, what_burst))?;
        }
        Ok(())
    }
}

/// What a channel is promised, and what it is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guarantees {
    /// It never gets more.
    pub limits: Limits,
    /// Cost units a second that it gets whenever it asks for them; 0 for none. [`crate::CostModel::cost`] of a request,
    /// times so many a second.
    pub reservation: u64,
    /// Its weight over what is left, beside those of the others.
    pub share: u32,
}

impl Guarantees {
    /// The share of a channel that was promised none in particular.
    pub const SHARE_DEFAULT: u32 = 100;
    /// The largest share.
    pub const SHARE_MAX: u32 = 10_000;
    /// The largest reservation, cost units a second.
    pub const RESERVATION_MAX: u64 = 1 << 48;

    pub(crate) fn check(&self) -> Result<(), QosError> {
        self.limits.check()?;
        within("the share", u64::from(self.share), u64::from(Self::SHARE_MAX))?;
        within("the reservation", self.reservation.max(1), Self::RESERVATION_MAX)
    }
}

impl Default for Guarantees {
    fn default() -> Self {
        Self { limits: Limits::default(), reservation: 0, share: Self::SHARE_DEFAULT }
    }
}

fn within(what: &'static str, asked: u64, most: u64) -> Result<(), QosError> {
    if (1..=most).contains(&asked) { Ok(()) } else { Err(QosError::Range { what, asked, most }) }
}
