//! Virtqueues, device side.
//!
//! A ring's pointers are resolved and checked once, at start; from then on the data path touches them without asking. What a
//! [`Chain`] and a [`Head`] are does not depend on the ring's layout: a packed ring would fill the same ones.

mod ahead;
mod chain;
pub(crate) mod event;
mod heads;
mod split;
mod walk;
mod words;

pub use chain::{Chain, SEGMENTS_MAX};
pub use heads::Head;
pub use split::{RingSetup, SplitRing};
pub use words::RingWatch;
pub(crate) use words::{DriverWords, RingWords};

#[cfg(test)]
pub(crate) mod tests;
