//! What a channel has done, readable without asking its sidecore.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Histogram, HistogramSnapshot};

/// A number that one thread raises and any may read.
///
/// Raised by a load and a store, both relaxed: there is one writer, and each count stands for itself.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `more`. For the one writing thread.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// What it stands at.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares counters and, under the same names, a plain copy of them.
macro_rules! counters {
    ($(#[$doc:meta])* $live:ident, $(#[$copy_doc:meta])* $copy:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $live {
            $($(#[$field_doc])* pub $field: Counter,)*
            /// From the last look at the ring that did not find a request to its submission: the longest that it can have waited,
            /// sleep apart, where the guest's kick ends the wait.
            pub ring_wait: Histogram,
            /// From its submission to its completion.
            pub device_time: Histogram,
        }

        $(#[$copy_doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $copy {
            $($(#[$field_doc])* pub $field: u64,)*
            /// From the last look at the ring that did not find a request to its submission: the longest that it can have waited,
            /// sleep apart, where the guest's kick ends the wait.
            pub ring_wait: HistogramSnapshot,
            /// From its submission to its completion.
            pub device_time: HistogramSnapshot,
        }

        impl $live {
            /// All of them as they are now. Counts of one moment may differ by the requests of a breath.
            #[must_use]
            pub fn snapshot(&self) -> $copy {
                $copy {
                    $($field: self.$field.get(),)*
                    ring_wait: self.ring_wait.snapshot(),
                    device_time: self.device_time.snapshot(),
                }
            }
        }

        impl $copy {
            /// The plain counts with their names, for tables and metrics.
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }
    };
}

counters! {
    /// A channel's counters and latency histograms: written by its sidecore, read by anybody.
    ChannelCounters,
    /// A channel's counters as they were at one moment.
    ChannelSnapshot {
        /// Read requests returned to the guest.
        reads,
        /// Bytes that they read.
        read_bytes,
        /// Write requests returned to the guest.
        writes,
        /// Bytes that they wrote.
        write_bytes,
        /// Flush requests returned to the guest.
        flushes,
        /// Discard requests returned to the guest.
        discards,
        /// Write-zeroes requests returned to the guest.
        write_zeroes,
        /// Other requests returned to the guest: identity, and what we do not know.
        others,
        /// Requests returned with an I/O error.
        errors,
        /// Requests returned as unsupported.
        unsupported,
        /// Flush requests that shared a device flush with an earlier one.
        flushes_merged,
        /// Device commands beyond the first of their request.
        splits,
        /// Pieces that went through a bounce buffer, copied once.
        bounced,
        /// Bytes so copied.
        bounced_bytes,
        /// Requests submitted again after a barrier had ended their commands.
        retries,
        /// Times the guest was interrupted.
        calls,
        /// Times the guest woke us.
        kicks,
        /// Breaths that left requests on a ring because the channel's budget was used up.
        throttled,
        /// Times that a limit of its own did not afford the next request, which was left on its ring.
        limited,
        /// Time that requests were so left, in nanoseconds.
        limited_ns,
        /// Times that its tenant's limits did not afford the next request, which was left on its ring.
        tenant_limited,
        /// Time that requests were so left, in nanoseconds.
        tenant_limited_ns,
        /// Cost of the requests taken from its rings, in cost units. Counted, as all that follows in cost units, on a device some
        /// channel of which was promised something.
        cost,
        /// Time that it had requests which its limits afford, while more was asked of the device than it has room for, in
        /// nanoseconds. Brought up to date ten times a second, as the three that follow.
        contended_ns,
        /// Cost that it was given in that time.
        contended_cost,
        /// Cost that its reservation promised it in that time. The reservation falls short by what this gained on
        /// `contended_cost`.
        reserved_due_cost,
        /// Cost that its share, beside the shares of all that had requests as well, was due of what the device was given in that
        /// time. The error of its share is how far `contended_cost` is from this.
        share_due_cost,
        /// Breaths that left requests on a ring because the device's lane, or a pool of ours, was full.
        starved,
        /// Completions that matched no command in flight, and were dropped (I1).
        strays,
    }
}
