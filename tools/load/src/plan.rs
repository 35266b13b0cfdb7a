//! What was asked for, made complete, before anything is connected.

use std::collections::HashMap;
use std::time::Duration;

use vfiomux_spec::virtio::blk::SECTOR_SIZE_BYTES;

use crate::error::LoadError;
use crate::workload::Region;
use crate::{Arguments, Arrivals};

/// Where the number of a guest goes in a socket's name.
const NUMBER: &str = "{}";
const BLOCK_MAX_BYTES: u64 = 16 << 20;
/// How much is verified unless more is asked for: every block of it is remembered, written and read back.
const VERIFY_SIZE_BYTES: u64 = 256 << 20;
/// A gigabyte of what is remembered.
const VERIFY_BLOCKS_MAX: u64 = 1 << 26;
const MIX_READ_PERCENT: u8 = 50;
const DURATION: Duration = Duration::from_secs(10);
const RAMP: Duration = Duration::from_secs(1);
/// A null ring gives the same figure after a moment as after an hour.
const CALIBRATION: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What was asked for, made complete.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) arguments: Arguments,
    /// The socket of each guest; empty names for a calibration.
    pub(crate) sockets: Vec<String>,
    pub(crate) block_bytes: u32,
    pub(crate) read_percent: u8,
    pub(crate) ramp: Duration,
    pub(crate) duration: Option<Duration>,
    pub(crate) threads: u32,
}

/// A guest's disk, as far as a plan has to know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    pub(crate) size_bytes: u64,
    pub(crate) block_bytes: u32,
    pub(crate) read_only: bool,
    pub(crate) takes_flushes: bool,
}

impl Plan {
    pub(crate) fn new(arguments: &Arguments) -> Result<Self, LoadError> {
        let block_bytes = u32::try_from(arguments.block_size)
            .ok()
            .filter(|&bytes| bytes > 0 && u64::from(bytes).is_multiple_of(SECTOR_SIZE_BYTES))
            .filter(|&bytes| u64::from(bytes) <= BLOCK_MAX_BYTES)
            .ok_or(LoadError::BlockSize(arguments.block_size))?;
        let sockets = sockets(arguments)?;
        let threads = arguments.threads.min(u32::try_from(sockets.len()).unwrap_or(u32::MAX));
        if let Some(cpus) = arguments.cpu.as_ref().filter(|cpus| cpus.0.len() < threads as usize) {
            return Err(LoadError::Cpus { cpus: cpus.0.len(), threads });
        }
        let (ramp, duration) = match arguments.requests {
            Some(_) => (Duration::ZERO, None),
            None if arguments.calibrate => (CALIBRATION.0, Some(CALIBRATION.1)),
            None => (RAMP, Some(DURATION)),
        };
        Ok(Self {
            sockets,
            block_bytes,
            read_percent: arguments.pattern.read_percent(arguments.read_percent.unwrap_or(MIX_READ_PERCENT)),
            ramp: arguments.ramp.unwrap_or(ramp),
            duration: arguments.duration.or(duration),
            threads,
            arguments: arguments.clone(),
        })
    }

    /// Whether anything is ever written.
    pub(crate) fn writes(&self) -> bool {
        self.read_percent < 100 || self.arguments.verify
    }

    /// Whether the region has to be written before it can be verified.
    pub(crate) fn fills(&self) -> bool {
        self.arguments.verify && self.read_percent == 100
    }

    /// How the arrivals of one guest are spread, and how many a second there are.
    pub(crate) fn arrivals(&self) -> Option<(Arrivals, f64)> {
        self.arguments.rate.map(|rate| (self.arguments.arrivals, rate / self.sockets.len() as f64))
    }

    /// The region of each guest on its disk. Guests that share a disk and verify it have one part of it each, so that none
    /// overwrites what another one wrote.
    pub(crate) fn regions(&self, disks: &[Disk]) -> Result<Vec<Region>, LoadError> {
        let mut sharers: HashMap<&str, u64> = HashMap::new();
        if self.arguments.verify {
            self.sockets.iter().for_each(|socket| *sharers.entry(socket).or_default() += 1);
        }
        let mut before: HashMap<&str, u64> = HashMap::new();
        let pairs = self.sockets.iter().zip(disks);
        pairs
            .map(|(socket, disk)| {
                let whole = self.region(socket, disk)?;
                let sharers = sharers.get(socket.as_str()).copied().unwrap_or(1);
                let nth = before.entry(socket).or_default();
                let blocks = whole.blocks / sharers;
                if blocks == 0 {
                    return Err(LoadError::Region { socket: socket.clone(), disk_bytes: disk.size_bytes });
                }
                let offset_bytes = match sharers {
                    1 => whole.offset_bytes,
                    _ => whole.offset_bytes + *nth * blocks * u64::from(self.block_bytes),
                };
                *nth += 1;
                Ok(Region { offset_bytes, blocks, ..whole })
            })
            .collect()
    }

    fn region(&self, socket: &str, disk: &Disk) -> Result<Region, LoadError> {
        let arguments = &self.arguments;
        let misaligned = |option| LoadError::Misaligned {
            socket: socket.to_owned(),
            disk_bytes: disk.block_bytes,
            option,
        };
        let unit = u64::from(disk.block_bytes.max(SECTOR_SIZE_BYTES as u32));
        if !u64::from(self.block_bytes).is_multiple_of(unit) {
            return Err(misaligned("block-size"));
        }
        if !arguments.offset.is_multiple_of(unit) {
            return Err(misaligned("offset"));
        }
        if disk.read_only && self.writes() {
            return Err(LoadError::ReadOnly(socket.to_owned()));
        }
        if !disk.takes_flushes && arguments.flush_every.is_some() {
            return Err(LoadError::NoFlush(socket.to_owned()));
        }
        let rest = disk.size_bytes.saturating_sub(arguments.offset);
        let default = if arguments.verify { VERIFY_SIZE_BYTES } else { u64::MAX };
        let blocks = arguments.size.unwrap_or(default).min(rest) / u64::from(self.block_bytes);
        if blocks == 0 {
            return Err(LoadError::Region { socket: socket.to_owned(), disk_bytes: disk.size_bytes });
        }
        if arguments.verify && blocks > VERIFY_BLOCKS_MAX {
            return Err(LoadError::VerifyTooLarge { blocks });
        }
        Ok(Region { offset_bytes: arguments.offset, blocks, block_bytes: self.block_bytes })
    }
}

/// One socket for each guest.
fn sockets(arguments: &Arguments) -> Result<Vec<String>, LoadError> {
    let given = &arguments.sockets;
    let guests = arguments.guests.unwrap_or(u32::try_from(given.len()).unwrap_or(u32::MAX).max(1));
    if (guests as usize) < given.len() {
        return Err(LoadError::Guests { sockets: given.len(), guests });
    }
    Ok((0..guests)
        .map(|number| match given.len() {
            0 => String::new(),
            // Sockets are dealt out in turn; more than one guest on a socket are as many sessions with it.
            count => given
                .get(number as usize % count)
                .map_or_else(String::new, |socket| socket.replace(NUMBER, &number.to_string())),
        })
        .collect())
}

#[cfg(test)]
mod tests;
