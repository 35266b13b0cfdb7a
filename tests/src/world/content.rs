//! What a block holds: who wrote it, where, and in which write. A wrong block tells not only that something went wrong, but what.

use super::random::Random;

/// Marks a block that somebody in the world wrote.
const MAGIC: u32 = 0x7a_5e_ed_01;

/// Who "writes" the blocks that belong to nobody.
pub(super) const NOBODY: u32 = u32::MAX;

/// A block's content, recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Zero,
    Written {
        /// The channel, or [`NOBODY`].
        owner: u32,
        /// The channel's block, or the device's where nobody owns it.
        block: u32,
        /// Which of the owner's writes. Never 0, which stands for zeroes.
        version: u32,
    },
    /// Nobody in the world writes such a thing.
    Garbage,
}

impl Content {
    /// Fills a block.
    pub(super) fn fill(self, bytes: &mut [u8]) {
        match self {
            Self::Written { owner, block, version } => {
                let mut random =
                    Random::new(u64::from(owner) << 40 ^ u64::from(version) << 20 ^ u64::from(block));
                let key = random.next();
                for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
                    let value = match at {
                        0 => u64::from(owner) << 32 | u64::from(block),
                        1 => u64::from(version) << 32 | u64::from(MAGIC),
                        _ => key.wrapping_add(at as u64),
                    };
                    word.copy_from_slice(&value.to_le_bytes());
                }
            }
            Self::Zero | Self::Garbage => bytes.fill(0),
        }
    }

    /// Recognises a block.
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.iter().all(|&byte| byte == 0) {
            return Self::Zero;
        }
        let word = |at: usize| {
            let word = bytes.get(at * 8..at * 8 + 8).and_then(|word| word.try_into().ok());
            word.map_or(0, u64::from_le_bytes)
        };
        let (first, second) = (word(0), word(1));
        let (owner, block, version) = ((first >> 32) as u32, first as u32, (second >> 32) as u32);
        let claimed = Self::Written { owner, block, version };
        if second as u32 != MAGIC || version == 0 {
            return Self::Garbage;
        }
        let mut expected = vec![0; bytes.len()];
        claimed.fill(&mut expected);
        if expected == bytes { claimed } else { Self::Garbage }
    }
}
