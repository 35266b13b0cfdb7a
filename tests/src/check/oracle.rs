//! What every sector of the disk must hold.

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::CheckError;
use super::pattern::{Content, SECTOR_BYTES, Tag};

/// What is known of a sector. Four bytes a sector, so that a disk of some gigabytes can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Never written by us.
    Nothing,
    Zero,
    /// Discarded, or a write's outcome was never told: zeros, or anything that we wrote there once, but never anybody else's.
    Ours,
    /// The write of this version.
    Version(u32),
}

impl Known {
    const FIRST_VERSION: u32 = 3;

    fn encode(self) -> u32 {
        match self {
            Known::Nothing => 0,
            Known::Zero => 1,
            Known::Ours => 2,
            Known::Version(version) => version,
        }
    }

    fn decode(code: u32) -> Known {
        match code {
            0 => Known::Nothing,
            1 => Known::Zero,
            2 => Known::Ours,
            version => Known::Version(version),
        }
    }
}

/// The disk as it should be.
#[derive(Debug)]
pub(crate) struct Oracle {
    identity: u32,
    sectors: Vec<u32>,
    next_version: u32,
}

impl Oracle {
    pub(crate) fn unknown(identity: u32, sectors: usize) -> Oracle {
        let sectors = vec![Known::Nothing.encode(); sectors];
        Oracle { identity, sectors, next_version: Known::FIRST_VERSION }
    }

    pub(crate) fn zero(identity: u32, sectors: usize) -> Oracle {
        let sectors = vec![Known::Zero.encode(); sectors];
        Oracle { identity, sectors, next_version: Known::FIRST_VERSION }
    }

    /// Reads what [`Oracle::remember`] wrote. A disk that has grown meanwhile must hold zeros in its new part.
    pub(crate) fn remembered(path: &Path, sectors: usize) -> Result<Oracle, CheckError> {
        let unusable = |reason: String| CheckError::Memory { path: path.to_owned(), reason };
        let bytes = fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let mut words =
            bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap_or_default()));
        let (Some(identity), Some(next_version)) = (words.next(), words.next()) else {
            return Err(unusable("it is cut short".to_owned()));
        };
        let mut known: Vec<u32> = words.collect();
        if known.len() > sectors {
            return Err(unusable(format!("it knows {} sectors, the disk has {sectors}", known.len())));
        }
        known.resize(sectors, Known::Zero.encode());
        Ok(Oracle { identity, sectors: known, next_version })
    }

    /// Writes down what is known.
    pub(crate) fn remember(&self, path: &Path) -> Result<(), CheckError> {
        let words = [self.identity, self.next_version].into_iter().chain(self.sectors.iter().copied());
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        fs::write(path, bytes)
            .map_err(|error| CheckError::Memory { path: path.to_owned(), reason: error.to_string() })
    }

    /// A version for the next write, and that write's bytes.
    pub(crate) fn compose(&mut self, range: Range<u64>, data: &mut [u8]) -> u32 {
        let version = self.next_version;
        self.next_version += 1;
        for (sector, bytes) in range.zip(data.chunks_exact_mut(SECTOR_BYTES)) {
            Tag { identity: self.identity, sector, version }.fill(bytes);
        }
        version
    }

    pub(crate) fn written(&mut self, range: Range<u64>, version: u32) {
        self.set(range, Known::Version(version));
    }

    pub(crate) fn zeroed(&mut self, range: Range<u64>) {
        self.set(range, Known::Zero);
    }

    /// The range was discarded, or its write or zeroing may or may not have happened.
    pub(crate) fn uncertain(&mut self, range: Range<u64>) {
        for sector in range {
            let known = &mut self.sectors[sector as usize];
            // A foreign sector that may have survived is still foreign.
            if Known::decode(*known) != Known::Nothing {
                *known = Known::Ours.encode();
            }
        }
    }

    fn set(&mut self, range: Range<u64>, known: Known) {
        self.sectors[range.start as usize..range.end as usize].fill(known.encode());
    }

    /// Holds what was read from `first_sector` on against what must be there.
    pub(crate) fn verify(&self, first_sector: u64, data: &[u8]) -> Result<(), CheckError> {
        for (sector, bytes) in (first_sector..).zip(data.chunks_exact(SECTOR_BYTES)) {
            let found = Content::of(bytes);
            let known = Known::decode(self.sectors[sector as usize]);
            let right = match (known, found) {
                (Known::Nothing, _) | (Known::Zero | Known::Ours, Content::Zero) => true,
                (Known::Version(version), Content::Tagged(tag)) => {
                    tag == Tag { identity: self.identity, sector, version }
                }
                (Known::Ours, Content::Tagged(tag)) => tag.identity == self.identity && tag.sector == sector,
                _ => false,
            };
            if !right {
                return Err(CheckError::Mismatch(format!(
                    "sector {sector} must hold {known:?} of identity {}, and holds {found:?}",
                    self.identity
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sectors(count: usize) -> Vec<u8> {
        vec![0; count * SECTOR_BYTES]
    }

    #[test]
    fn what_was_written_last_is_right_and_an_older_write_is_not() {
        let mut oracle = Oracle::unknown(1, 8);
        let (mut old, mut new) = (sectors(2), sectors(2));
        let version = oracle.compose(2..4, &mut old);
        oracle.written(2..4, version);
        assert!(oracle.verify(2, &old).is_ok());
        let version = oracle.compose(2..4, &mut new);
        oracle.written(2..4, version);
        assert!(oracle.verify(2, &new).is_ok());
        assert!(oracle.verify(2, &old).is_err());
    }

    #[test]
    fn another_identity_s_sector_is_wrong_even_after_a_discard() {
        let mut stranger = Oracle::unknown(2, 8);
        let mut data = sectors(1);
        stranger.compose(0..1, &mut data);
        let mut oracle = Oracle::zero(1, 8);
        assert!(oracle.verify(0, &data).is_err());
        oracle.uncertain(0..1);
        assert!(oracle.verify(0, &data).is_err());
        assert!(oracle.verify(0, &sectors(1)).is_ok());
    }

    #[test]
    fn a_sector_in_another_s_place_is_wrong() {
        let mut oracle = Oracle::unknown(1, 8);
        let mut data = sectors(2);
        let version = oracle.compose(0..2, &mut data);
        oracle.written(0..2, version);
        data.rotate_left(SECTOR_BYTES);
        assert!(oracle.verify(0, &data).is_err());
    }

    #[test]
    fn what_is_remembered_is_known_again_and_a_grown_disk_ends_in_zeros() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut oracle = Oracle::zero(1, 4);
        let mut data = sectors(1);
        let version = oracle.compose(3..4, &mut data);
        oracle.written(3..4, version);
        oracle.remember(file.path()).expect("a writable file");
        let again = Oracle::remembered(file.path(), 6).expect("a whole file");
        assert!(again.verify(3, &data).is_ok());
        assert!(again.verify(4, &data).is_err());
        assert!(Oracle::remembered(file.path(), 3).is_err(), "a disk that shrank is noticed");
    }
}
