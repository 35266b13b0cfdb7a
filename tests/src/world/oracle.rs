//! What every block of a channel may hold.
//!
//! Requests overlap as they please, so a block has a set of contents that it may hold: what the last completed write left there,
//! what writes that were in flight at the same time may have left instead, and what those in flight now may leave. A write that
//! failed, or whose guest never heard of it, may or may not have happened.
//!
//! ```text
//!   time ──►   ├── write 1 ──┤                      settled {1}
//!                    ├── write 2 ──┤                settled {1, 2}: they overlap, and either may have come last
//!                                     ├── write 3   settled {1, 2}, pending {3}
//! ```

use std::collections::BTreeMap;

use super::content::Content;

/// The zeroes that a scrub or a write-zeroes request leaves.
pub(super) const ZEROES: u32 = 0;

/// A channel's blocks.
#[derive(Debug)]
pub(super) struct Oracle {
    owner: u32,
    blocks: Vec<Block>,
    /// Counts beginnings and ends.
    clock: u64,
    last_version: u32,
    readings: BTreeMap<u64, Reading>,
}

#[derive(Debug, Clone)]
struct Block {
    /// What it may hold, and when that came to be so.
    settled: Vec<(u32, u64)>,
    /// What writes in flight may make of it.
    pending: Vec<u32>,
}

/// A write in flight.
#[derive(Debug)]
pub(super) struct Writing {
    first: usize,
    count: usize,
    version: u32,
    started: u64,
}

/// A read in flight: what it may find.
#[derive(Debug)]
struct Reading {
    first: usize,
    allowed: Vec<Vec<u32>>,
    started: u64,
}

impl Oracle {
    /// A scrubbed channel of so many blocks.
    pub(super) fn new(owner: u32, blocks: usize) -> Self {
        let mut oracle =
            Self { owner, blocks: Vec::new(), clock: 0, last_version: ZEROES, readings: BTreeMap::new() };
        oracle.resize(blocks);
        oracle
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The channel has so many blocks now; new ones were scrubbed.
    pub(super) fn resize(&mut self, blocks: usize) {
        let scrubbed = Block { settled: vec![(ZEROES, self.clock)], pending: Vec::new() };
        self.blocks.resize(blocks, scrubbed);
    }

    /// A version that no write had.
    pub(super) fn new_version(&mut self) -> u32 {
        self.last_version += 1;
        self.last_version
    }

    /// What a block holds after the write of a version.
    pub(super) fn content(&self, block: usize, version: u32) -> Content {
        match version {
            ZEROES => Content::Zero,
            version => Content::Written { owner: self.owner, block: block as u32, version },
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A write is about to be submitted.
    pub(super) fn begin_write(&mut self, first: usize, count: usize, version: u32) -> Writing {
        let started = self.tick();
        for block in self.blocks.iter_mut().skip(first).take(count) {
            block.pending.push(version);
        }
        for reading in self.readings.values_mut() {
            for (at, allowed) in (reading.first..).zip(&mut reading.allowed) {
                if (first..first + count).contains(&at) {
                    allowed.push(version);
                }
            }
        }
        Writing { first, count, version, started }
    }

    /// A write was carried out for certain (`sure`), or perhaps. It has no effect later than now.
    pub(super) fn end_write(&mut self, writing: &Writing, sure: bool) {
        let now = self.tick();
        // Blocks that the channel has lost meanwhile are not there any more.
        for block in self.blocks.iter_mut().skip(writing.first).take(writing.count) {
            if let Some(at) = block.pending.iter().position(|&version| version == writing.version) {
                block.pending.swap_remove(at);
            }
            let stays = |version, at| version != writing.version && (!sure || at > writing.started);
            block.settled.retain(|&(version, at)| stays(version, at));
            block.settled.push((writing.version, now));
        }
    }

    /// A read is about to be submitted. Gives its name.
    pub(super) fn begin_read(&mut self, first: usize, count: usize) -> u64 {
        let started = self.tick();
        let may_hold = |block: &Block| block.may_hold().collect();
        let allowed = self.blocks.iter().skip(first).take(count).map(may_hold).collect();
        self.readings.insert(started, Reading { first, allowed, started });
        started
    }

    /// A read found these bytes; `None` when it failed.
    pub(super) fn end_read(
        &mut self,
        name: u64,
        found: Option<&[u8]>,
        block_bytes: usize,
    ) -> Result<(), String> {
        let Some(reading) = self.readings.remove(&name) else { return Ok(()) };
        let Some(found) = found else { return Ok(()) };
        for ((at, allowed), bytes) in (reading.first..).zip(&reading.allowed).zip(found.chunks(block_bytes)) {
            let content = Content::of(bytes);
            let version = allowed.iter().copied().find(|&version| self.content(at, version) == content);
            let Some(version) = version else {
                return Err(self.wrong("a read of", at, content, allowed));
            };
            // Nothing wrote meanwhile: what was found is what is there, and nothing else may be found from now on.
            if let Some(block) = self.blocks.get_mut(at)
                && block.pending.is_empty()
                && block.settled.iter().all(|&(_, at)| at < reading.started)
            {
                block.settled.retain(|&(other, _)| other == version);
            }
        }
        Ok(())
    }

    /// Holds a block of the medium itself against what it may hold now.
    pub(super) fn check(&self, at: usize, bytes: &[u8]) -> Result<(), String> {
        let Some(block) = self.blocks.get(at) else { return Ok(()) };
        let content = Content::of(bytes);
        let allowed: Vec<u32> = block.may_hold().collect();
        if allowed.iter().any(|&version| self.content(at, version) == content) {
            return Ok(());
        }
        Err(self.wrong("the medium at", at, content, &allowed))
    }

    fn wrong(&self, what: &str, block: usize, found: Content, allowed: &[u32]) -> String {
        let owner = self.owner;
        format!("{what} block {block} of owner {owner} found {found:?}, not one of the versions {allowed:?}")
    }
}

impl Block {
    fn may_hold(&self) -> impl Iterator<Item = u32> + '_ {
        self.settled.iter().map(|&(version, _)| version).chain(self.pending.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 512;

    fn bytes(oracle: &Oracle, block: usize, version: u32) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK];
        oracle.content(block, version).fill(&mut bytes);
        bytes
    }

    fn holds(oracle: &Oracle, versions: &[u32]) -> Vec<bool> {
        versions.iter().map(|&version| oracle.check(0, &bytes(oracle, 0, version)).is_ok()).collect()
    }

    #[test]
    fn a_write_that_began_after_another_ended_replaces_it() {
        let mut oracle = Oracle::new(1, 2);
        for version in [1, 2] {
            let writing = oracle.begin_write(0, 1, version);
            oracle.end_write(&writing, true);
        }
        assert_eq!(holds(&oracle, &[ZEROES, 1, 2]), [false, false, true]);
    }

    #[test]
    fn of_writes_that_overlap_either_may_come_last() {
        let mut oracle = Oracle::new(1, 2);
        let (one, two) = (oracle.begin_write(0, 1, 1), oracle.begin_write(0, 1, 2));
        assert_eq!(holds(&oracle, &[ZEROES, 1, 2]), [true; 3]);
        oracle.end_write(&one, true);
        oracle.end_write(&two, true);
        assert_eq!(holds(&oracle, &[ZEROES, 1, 2]), [false, true, true]);
    }

    #[test]
    fn a_write_that_failed_may_have_happened_or_not() {
        let mut oracle = Oracle::new(1, 2);
        let writing = oracle.begin_write(0, 1, 1);
        oracle.end_write(&writing, false);
        assert_eq!(holds(&oracle, &[ZEROES, 1]), [true, true]);
    }

    #[test]
    fn a_read_finds_what_was_there_at_some_time_while_it_ran() {
        let mut oracle = Oracle::new(1, 2);
        let early = oracle.begin_read(0, 1);
        let writing = oracle.begin_write(0, 1, 1);
        oracle.end_write(&writing, true);
        let late = oracle.begin_read(0, 1);
        let old = bytes(&oracle, 0, ZEROES);
        assert!(oracle.end_read(early, Some(&old), BLOCK).is_ok());
        assert!(oracle.end_read(late, Some(&old), BLOCK).is_err());
    }

    #[test]
    fn what_was_read_stays() {
        let mut oracle = Oracle::new(1, 2);
        let writing = oracle.begin_write(0, 1, 1);
        oracle.end_write(&writing, false);
        let read = oracle.begin_read(0, 1);
        let new = bytes(&oracle, 0, 1);
        oracle.end_read(read, Some(&new), BLOCK).expect("it may be there");
        assert_eq!(holds(&oracle, &[ZEROES, 1]), [false, true]);
    }

    #[test]
    fn another_s_block_and_a_block_in_another_s_place_are_wrong() {
        let (mut oracle, stranger) = (Oracle::new(1, 2), Oracle::new(2, 2));
        let writing = oracle.begin_write(0, 2, 1);
        oracle.end_write(&writing, true);
        assert!(oracle.check(0, &bytes(&stranger, 0, 1)).is_err());
        assert!(oracle.check(0, &bytes(&oracle, 1, 1)).is_err());
    }
}
