//! How a label changes.
//!
//! Blocks that it names hold somebody's data, or may: whatever a channel has no more is listed as not scrubbed. So no change makes
//! it forget a block but the one that says that it is clean (C3).

use super::{Label, LabelledChannel};
use crate::extent::{Extent, minus};

impl Label {
    /// The blocks that a channel has here.
    #[must_use]
    pub fn extents_of(&self, id: &str) -> Vec<Extent> {
        let entries = self.channels.iter().filter(|entry| entry.id == id);
        entries.flat_map(|entry| entry.extents.iter().copied()).collect()
    }

    /// Blocks are a channel's. If an earlier stay of it left others here, they are to be scrubbed.
    pub fn enter(&mut self, channel: LabelledChannel) {
        self.leave(&channel.id);
        self.unscrubbed = minus(&self.unscrubbed, &channel.extents);
        self.channels.push(channel);
    }

    /// Blocks are nobody's, and not scrubbed.
    pub fn keep_back(&mut self, extents: &[Extent]) {
        self.unscrubbed = minus(&self.unscrubbed, extents);
        self.unscrubbed.extend(extents);
    }

    /// A channel has other blocks than before. What it has no more is to be scrubbed.
    pub fn carve(&mut self, id: &str, extents: &[Extent], size_bytes: u64) {
        let lost = minus(&self.extents_of(id), extents);
        self.keep_back(&lost);
        if let Some(entry) = self.channels.iter_mut().find(|entry| entry.id == id) {
            entry.extents = extents.to_vec();
            entry.size_bytes = size_bytes;
        }
    }

    /// A channel is not here, and its blocks are to be scrubbed.
    pub fn leave(&mut self, id: &str) {
        let left = self.extents_of(id);
        self.channels.retain(|entry| entry.id != id);
        self.keep_back(&left);
    }

    /// Blocks are clean.
    pub fn clean(&mut self, extents: &[Extent]) {
        self.unscrubbed = minus(&self.unscrubbed, extents);
    }
}
