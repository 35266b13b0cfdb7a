//! What the sectors that this checker writes look like.

use super::random::Random;

/// The unit of virtio-blk's addresses, and of what is marked.
pub const SECTOR_BYTES: usize = 512;

/// Begins every written sector, so that foreign bytes are told from ours.
const MAGIC: u32 = 0x7666_6d78;
/// Magic, identity, sector (two words), version: then words that follow from these.
const TAG_WORDS: usize = 5;

/// Who wrote a sector, where, and in which of its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) identity: u32,
    pub(crate) sector: u64,
    pub(crate) version: u32,
}

/// What a sector turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Zero,
    /// Some checker's, whole.
    Tagged(Tag),
    /// Some checker's, with bytes that are not what it wrote.
    Torn(Tag),
    Other,
}

impl Tag {
    /// Writes the sector.
    pub(crate) fn fill(self, sector: &mut [u8]) {
        for (word, bytes) in self.words().zip(sector.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    fn words(self) -> impl Iterator<Item = u32> {
        let (low, high) = (self.sector as u32, (self.sector >> 32) as u32);
        let tag: [u32; TAG_WORDS] = [MAGIC, self.identity, low, high, self.version];
        let mut state =
            Random::new((u64::from(self.identity) << 32 | u64::from(self.version)) ^ self.sector << 20);
        tag.into_iter().chain(std::iter::repeat_with(move || state.next() as u32))
    }
}

impl Content {
    /// Recognises a sector.
    pub(crate) fn of(sector: &[u8]) -> Content {
        if sector.iter().all(|&byte| byte == 0) {
            return Content::Zero;
        }
        let mut words =
            sector.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap_or_default()));
        let mut next = || words.next().unwrap_or_default();
        if next() != MAGIC {
            return Content::Other;
        }
        let (identity, low, high, version) = (next(), next(), next(), next());
        let tag = Tag { identity, sector: u64::from(high) << 32 | u64::from(low), version };
        if tag.words().skip(TAG_WORDS).zip(words).all(|(expected, found)| expected == found) {
            Content::Tagged(tag)
        } else {
            Content::Torn(tag)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Tag = Tag { identity: 7, sector: 0x1_0000_0002, version: 9 };

    #[test]
    fn a_written_sector_is_recognised_with_its_tag() {
        let mut sector = [0; SECTOR_BYTES];
        TAG.fill(&mut sector);
        assert_eq!(Content::of(&sector), Content::Tagged(TAG));
    }

    #[test]
    fn a_single_changed_byte_makes_a_sector_torn() {
        let mut sector = [0; SECTOR_BYTES];
        TAG.fill(&mut sector);
        sector[SECTOR_BYTES - 1] ^= 1;
        assert_eq!(Content::of(&sector), Content::Torn(TAG));
    }

    #[test]
    fn foreign_bytes_and_zeros_are_told_apart() {
        assert_eq!(Content::of(&[0; SECTOR_BYTES]), Content::Zero);
        assert_eq!(Content::of(&[1; SECTOR_BYTES]), Content::Other);
    }
}
