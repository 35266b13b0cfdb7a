use vfiomux_guest::RingFault;

/// Why a channel was quarantined: its guest or front-end broke the rules. Nobody else is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The guest broke the rules of a ring.
    #[error("ring {index}: {fault}")]
    Ring {
        /// Which of the channel's rings.
        index: u16,
        /// How.
        fault: RingFault,
    },
    /// The front-end took pages of the memory away that it had lent.
    #[error("the front-end truncated the memory that it had lent; restart the VM")]
    MemoryLost,
    /// A ring does not lie in the memory map that replaced another.
    #[error("ring {index} is not in the memory that the front-end lends now; restart the VM")]
    RingLost {
        /// Which of the channel's rings.
        index: u16,
    },
}
