/// Guarantees that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QosError {
    /// A rate or burst is zero or beyond what can be counted.
    #[error("{what} cannot be {asked}; give a number from 1 to {most}, or leave it out")]
    Range {
        /// Which number.
        what: &'static str,
        /// As asked for.
        asked: u64,
        /// The largest that can be.
        most: u64,
    },
    /// A burst is too short to be shared among sidecores.
    #[error(
        "a burst of {burst} is too little to share at {per_second} a second; give at least a millisecond's worth"
    )]
    SharedBurst {
        /// As asked for.
        burst: u64,
        /// The rate that it belongs to.
        per_second: u64,
    },
    /// The channel's place in the table is beyond its size.
    #[error("the scheduler has room for {places} channels, and place {place} is not among them")]
    NoPlace {
        /// Asked for.
        place: u16,
        /// There are.
        places: u16,
    },
}
