use std::fmt;

/// Who a channel is on its sidecore.
///
/// The index says where it sits in the sidecore's table and is used again after a removal; the incarnation never is. An
/// order or a completion that carries a stale incarnation reaches nobody (I1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelId {
    /// Place in the sidecore's table.
    pub index: u16,
    /// Which of all the channels that ever had that place.
    pub incarnation: u32,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.incarnation)
    }
}
