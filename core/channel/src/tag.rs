use vfiomux_block::Tag;

/// Whose a command is, folded into the tag that travels with it.
///
/// ```text
///   63      48 47      32 31               0
///   | owner    | slot     | stamp            |
/// ```
///
/// The owner is a channel's index, or one of two that no channel has. The stamp differs between any two commands of an
/// owner that could be confused, also across incarnations: a completion that comes late or twice finds another stamp in the
/// slot, or none, and reaches nobody (I1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandTag {
    /// Index of the channel, [`Self::FLUSH`] or [`Self::SERVICE`].
    pub owner: u16,
    /// Which of the owner's commands.
    pub slot: u16,
    /// Which use of the slot; never 0.
    pub stamp: u32,
}

impl CommandTag {
    /// Owner of the flushes that a sidecore merges.
    pub const FLUSH: u16 = u16::MAX;
    /// Owner of the commands that control sends.
    pub const SERVICE: u16 = u16::MAX - 1;
    /// Channels have indices below.
    pub const CHANNELS_MAX: u16 = u16::MAX - 1;
}

impl From<CommandTag> for Tag {
    #[inline]
    fn from(tag: CommandTag) -> Self {
        Self(u64::from(tag.owner) << 48 | u64::from(tag.slot) << 32 | u64::from(tag.stamp))
    }
}

impl From<Tag> for CommandTag {
    #[inline]
    fn from(Tag(raw): Tag) -> Self {
        // Each cast keeps exactly the field's bits.
        Self { owner: (raw >> 48) as u16, slot: (raw >> 32) as u16, stamp: raw as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_the_way_there_and_back() {
        let tag = CommandTag { owner: 0xfffd, slot: 0x1234, stamp: 0xdead_beef };
        assert_eq!(CommandTag::from(Tag::from(tag)), tag);
    }
}
