use crate::credit::{Sum, Tally};
use crate::{CostModel, Direction, Guarantees, Io, Limits, QosError, Rate};

/// Guarantees as a sidecore runs them. Made by control, checked, and handed over whole (Q3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    pub(crate) limits: Limits,
    pub(crate) cost: CostModel,
    pub(crate) reservation: u64,
    pub(crate) share: u32,
}

impl Program {
    /// The request that reservations are counted in.
    pub const RESERVED: Io = Io::read(4096);

    /// Compiles guarantees for a device whose requests cost what `cost` says.
    ///
    /// # Errors
    /// [`QosError::Range`]: a number is 0 or too large.
    pub fn compile(guarantees: &Guarantees, cost: CostModel) -> Result<Self, QosError> {
        guarantees.check()?;
        let Guarantees { limits, reservation, share } = *guarantees;
        Ok(Self { limits, cost, reservation, share })
    }

    /// The same guarantees on a device whose requests cost what `cost` says. A reservation stays as many reads of 4 KiB.
    #[must_use]
    pub fn recost(self, cost: CostModel) -> Self {
        let (old, new) = (self.cost.cost(Self::RESERVED), cost.cost(Self::RESERVED));
        let reservation = u128::from(self.reservation) * u128::from(new) / u128::from(old);
        let reservation = u64::try_from(reservation).unwrap_or(Guarantees::RESERVATION_MAX);
        // A reservation that rounds to nothing would be none.
        let reservation = reservation.clamp(self.reservation.min(1), Guarantees::RESERVATION_MAX);
        Self { cost, reservation, ..self }
    }

    /// Whether it limits nothing, reserves nothing, and has the usual share.
    #[must_use]
    pub fn promises_nothing(&self) -> bool {
        self.limits == Limits::default() && self.reservation == 0 && self.share == Guarantees::SHARE_DEFAULT
    }

    /// What requests cost.
    #[must_use]
    pub fn cost_model(&self) -> &CostModel {
        &self.cost
    }

    /// Cost units a second that are reserved.
    #[must_use]
    pub fn reservation(&self) -> u64 {
        self.reservation
    }

    /// The weight over what is left.
    #[must_use]
    pub fn share(&self) -> u32 {
        self.share
    }
}

impl Default for Program {
    /// No limit, no reservation, the usual share.
    fn default() -> Self {
        let Guarantees { limits, reservation, share } = Guarantees::default();
        Self { limits, cost: CostModel::default(), reservation, share }
    }
}

/// What a limit counts, and of which requests: tokens that a request takes, for being one and for each byte, by direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measure {
    read: Tokens,
    write: Tokens,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tokens {
    per_op: u32,
    per_byte: u32,
}

impl Limits {
    /// The limits with what each counts, in a fixed order.
    pub(crate) fn measures(&self) -> [(Option<Rate>, Measure); Self::COUNT] {
        let (none, op, byte) = (Tokens::new(0, 0), Tokens::new(1, 0), Tokens::new(0, 1));
        [
            (self.ops, Measure { read: op, write: op }),
            (self.bytes, Measure { read: byte, write: byte }),
            (self.read_ops, Measure { read: op, write: none }),
            (self.read_bytes, Measure { read: byte, write: none }),
            (self.write_ops, Measure { read: none, write: op }),
            (self.write_bytes, Measure { read: none, write: byte }),
        ]
    }
}

impl Tokens {
    const fn new(per_op: u32, per_byte: u32) -> Self {
        Self { per_op, per_byte }
    }
}

impl Measure {
    /// Counts nothing.
    pub(crate) const NOTHING: Self = Self { read: Tokens::new(0, 0), write: Tokens::new(0, 0) };

    /// Tokens that a request takes.
    #[inline]
    pub(crate) fn tokens(&self, io: Io) -> u32 {
        let Tokens { per_op, per_byte } = match io.direction {
            Direction::Read => self.read,
            Direction::Write => self.write,
        };
        // Only one of the two is not 0, and it is 1.
        per_op + per_byte * io.bytes
    }

    /// Tokens that many requests take.
    #[inline]
    pub(crate) fn sum(&self, tally: &Tally) -> u64 {
        let of = |Tokens { per_op, per_byte }: Tokens, Sum { ops, bytes }: Sum| {
            u64::from(per_op) * ops + u64::from(per_byte) * bytes
        };
        of(self.read, tally.read) + of(self.write, tally.write)
    }

    /// Whether its tokens are bytes, and not operations.
    #[inline]
    pub(crate) fn is_of_bytes(&self) -> bool {
        self.read.per_byte | self.write.per_byte != 0
    }
}
