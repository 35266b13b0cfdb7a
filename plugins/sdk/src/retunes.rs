use crate::{Amendments, Channel};

/// What must change of one channel's guarantees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retune {
    /// The channel.
    pub channel_id: String,
    /// The generation that this was decided upon: when the channel has moved on since, nothing happens.
    pub generation: u64,
    /// What changes, all of it or nothing.
    pub amendments: Amendments,
}

/// New guarantees for channels, as a hook gives them.
#[derive(Debug, Default)]
pub struct Retunes(Vec<Retune>);

impl Retunes {
    /// Changes some of a channel's guarantees; the channel is one of those that the request named. Changing nothing does
    /// nothing.
    pub fn set(&mut self, channel: &Channel, amendments: Amendments) {
        if !amendments.is_empty() {
            let channel_id = channel.id.clone();
            self.0.push(Retune { channel_id, generation: channel.generation, amendments });
        }
    }

    /// What was given so far.
    #[must_use]
    pub fn as_slice(&self) -> &[Retune] {
        &self.0
    }
}
