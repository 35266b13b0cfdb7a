//! What is weighed once for many requests.

use crate::{Direction, Io};

/// What may go without another look at the limits: any requests that are no more operations and no more bytes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    ops: u64,
    bytes: u64,
}

impl Credit {
    /// Nothing may.
    pub const NONE: Self = Self { ops: 0, bytes: 0 };
    /// Anything may.
    pub const UNLIMITED: Self = Self { ops: u64::MAX, bytes: u64::MAX };

    /// What both allow.
    #[inline]
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { ops: self.ops.min(other.ops), bytes: self.bytes.min(other.bytes) }
    }

    /// No more than so many tokens, of bytes or of operations.
    #[inline]
    pub(crate) fn within(self, tokens: u64, are_bytes: bool) -> Self {
        if are_bytes {
            Self { bytes: self.bytes.min(tokens), ..self }
        } else {
            Self { ops: self.ops.min(tokens), ..self }
        }
    }

    /// Takes a request off, if it is within.
    #[inline]
    #[must_use]
    pub fn take(&mut self, io: Io) -> bool {
        let (Some(ops), Some(bytes)) = (self.ops.checked_sub(1), self.bytes.checked_sub(io.bytes.into()))
        else {
            return false;
        };
        *self = Self { ops, bytes };
        true
    }
}

/// Requests added up, by direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub(crate) read: Sum,
    pub(crate) write: Sum,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum {
    pub(crate) ops: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    /// One more.
    #[inline]
    pub fn add(&mut self, io: Io) {
        let sum = match io.direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
        sum.ops += 1;
        sum.bytes += u64::from(io.bytes);
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.ops | self.write.ops == 0
    }
}
