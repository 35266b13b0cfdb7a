//! One measure for reads, writes and sizes.

/// Which way the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the guest.
    Read,
    /// From the guest; also whatever else changes blocks.
    Write,
}

/// What is known of a request before it goes to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Io {
    /// Which way.
    pub direction: Direction,
    /// Bytes of data; 0 for a request without any.
    pub bytes: u32,
}

impl Io {
    /// A read of so many bytes.
    #[inline]
    #[must_use]
    pub const fn read(bytes: u32) -> Self {
        Self { direction: Direction::Read, bytes }
    }

    /// A write of so many bytes.
    #[inline]
    #[must_use]
    pub const fn write(bytes: u32) -> Self {
        Self { direction: Direction::Write, bytes }
    }
}

/// What a request costs a device, in cost units: so much for being one, and so much for its size.
///
/// A unit means nothing by itself; it compares requests on one device. The model of a device is measured by calibration. The
/// default stands in before: a read of 4 KiB costs 1024 units, half of them for its size, so that one of 128 KiB costs
/// 16.5 times as much; a write costs twice what a read costs. That is the middle of what flash devices do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CostModel {
    /// For a read, whatever its size.
    pub read_op: u32,
    /// For each KiB read.
    pub read_kib: u32,
    /// For a write, whatever its size; also for a command that moves no data.
    pub write_op: u32,
    /// For each KiB written.
    pub write_kib: u32,
}

impl CostModel {
    /// The cost of a request: at least 1.
    #[inline]
    #[must_use]
    pub fn cost(&self, io: Io) -> u32 {
        let (op, kib) = match io.direction {
            Direction::Read => (self.read_op, self.read_kib),
            Direction::Write => (self.write_op, self.write_kib),
        };
        // Both factors fit 32 bits, so the product and the sum fit 64.
        let cost = u64::from(op) + ((u64::from(io.bytes) * u64::from(kib)) >> 10);
        u32::try_from(cost).unwrap_or(u32::MAX).max(1)
    }
}

impl Default for CostModel {
    fn default() -> Self {
        Self { read_op: 512, read_kib: 128, write_op: 1024, write_kib: 256 }
    }
}
