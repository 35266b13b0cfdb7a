//! What happened lately, and a fingerprint of all that ever did.

use std::collections::VecDeque;
use std::hash::Hasher;

/// Lines that a failure shows.
const KEPT: usize = 60;

/// The end of the world's story.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    fingerprint: Fnv,
    pub(super) step: u64,
}

/// Fowler, Noll, Vo: the same in every process.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

impl Trace {
    pub(super) fn note(&mut self, what: impl Into<String>) {
        let line = format!("{:6} {}", self.step, what.into());
        self.fingerprint.write(line.as_bytes());
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint.finish()
    }
}
