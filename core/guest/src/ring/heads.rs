//! Who holds which chain.
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

/// A chain that a ring gave out and wants back: by [`push_used`](super::SplitRing::push_used), once.
///
/// It cannot be copied, so returning it twice does not compile (I2):
///
/// ```compile_fail,E0382
/// # fn f(ring: &mut vfiomux_guest::SplitRing, head: vfiomux_guest::Head) {
/// ring.push_used(head, 0);
/// ring.push_used(head, 0);
/// # }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a head that is dropped is never returned to the guest"]
pub struct Head {
    pub(super) index: u16,
}

impl Head {
    /// The index of the chain's first descriptor: unique among the chains in flight on a ring, below the ring's size.
    #[inline]
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }
}

/// The heads that are out: a bit each.
#[derive(Debug)]
pub(super) struct HeadSet(Box<[u64]>);

impl HeadSet {
    /// An empty set for heads below `size`.
    pub(super) fn new(size: u16) -> Self {
        Self(vec![0; usize::from(size).div_ceil(64)].into())
    }

    /// Adds a head; false when it is in already, or not below the size.
    #[inline]
    pub(super) fn insert(&mut self, head: u16) -> bool {
        let bit = 1 << (head % 64);
        let Some(word) = self.0.get_mut(usize::from(head / 64)).filter(|word| **word & bit == 0) else {
            return false;
        };
        *word |= bit;
        true
    }

    /// Takes a head out; false when it is not in.
    #[inline]
    pub(super) fn remove(&mut self, head: u16) -> bool {
        let bit = 1 << (head % 64);
        let Some(word) = self.0.get_mut(usize::from(head / 64)).filter(|word| **word & bit != 0) else {
            return false;
        };
        *word &= !bit;
        true
    }

    /// How many are in: counted now, which is seldom asked, and not kept, for each request would pay for it.
    pub(super) fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_in_or_out_never_twice() {
        let mut heads = HeadSet::new(128);
        assert!(heads.insert(0) && heads.insert(127) && !heads.insert(127));
        assert_eq!(heads.len(), 2);
        assert!(heads.remove(127) && !heads.remove(127) && heads.insert(127));
        assert!(!heads.insert(128) && !heads.remove(128));
    }
}
