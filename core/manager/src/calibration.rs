//! From what a device was measured to do to what its requests cost.
//!
//! A device is taken for a server that does one thing after the other: what it does in a second is one second's worth of cost,
//! whatever it is made of. A request costs so much for being one, and so much for each KiB. Four rates, of small and of
//! large reads and writes, give the four numbers:
//!
//! ```text
//!   seconds each   = 1 / rate
//!   for each KiB   = (seconds of a large one − seconds of a small one) / (KiB of a large one − KiB of a small one)
//!   for being one  = seconds of a small one − its KiB × that
//! ```
//!
//! They are scaled so that a small read of [`SMALL_BYTES`] costs [`SMALL_READ_UNITS`], on each device and before it was calibrated: what
//! is reserved, in such reads, means the same number of cost units for ever.

use vfiomux_qos::{CostModel, Io};
use vfiomux_rpc::{Calibration, Cost};

/// A small request.
pub const SMALL_BYTES: u32 = 4096;
/// What a small read costs.
pub const SMALL_READ_UNITS: u32 = 1024;
/// A window below keeps no device busy through a breath.
const WINDOW_MIN: u32 = 16;
/// More than this fits no lane.
const WINDOW_MAX: u32 = 128;
/// No request costs more, for being one or for a KiB: beyond, a measurement has gone wrong.
const UNITS_MAX: f64 = 1_048_576.0;

/// Requests of one kind that a device did in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Size of each.
    pub bytes: u32,
    /// How many.
    pub per_second: u64,
}

/// Two rates of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Of small requests.
    pub small: Rate,
    /// Of large ones.
    pub large: Rate,
}

impl Rate {
    /// So many commands in so long a time.
    #[must_use]
    pub fn of(bytes: u32, commands: u64, elapsed_ns: u64) -> Self {
        let per_second = u128::from(commands) * 1_000_000_000 / u128::from(elapsed_ns.max(1));
        Self { bytes, per_second: u64::try_from(per_second).unwrap_or(u64::MAX) }
    }

    fn bytes_per_second(self) -> u64 {
        self.per_second.saturating_mul(u64::from(self.bytes))
    }

    fn seconds(self) -> f64 {
        1.0 / (self.per_second.max(1) as f64)
    }

    fn kib(self) -> f64 {
        f64::from(self.bytes) / 1024.0
    }
}

/// For being one, and for each KiB, in seconds. Neither is below 0: a large request that was done sooner than a small one says
/// that size costs nothing here.
fn terms(rates: Rates) -> (f64, f64) {
    let Rates { small, large } = rates;
    let more_kib = large.kib() - small.kib();
    let slope = if more_kib > 0.0 { (large.seconds() - small.seconds()) / more_kib } else { 0.0 };
    let kib = slope.clamp(0.0, small.seconds() / small.kib());
    (small.seconds() - kib * small.kib(), kib)
}

/// What the four rates, and the time of a read that is alone, come to. On a device whose blocks are larger than [`SMALL_BYTES`], a small read is one that nobody can
/// make; what it would cost follows all the same.
#[must_use]
pub fn calibration(reads: Rates, writes: Rates, read_latency_ns: u64, time_unix_ns: u64) -> Calibration {
    const SMALL_KIB: u32 = SMALL_BYTES / 1024;
    let (read_op, read_kib) = terms(reads);
    let (write_op, write_kib) = terms(writes);
    let small_read = read_op + f64::from(SMALL_KIB) * read_kib;
    // Casts of floating point saturate, and units are clamped before.
    let units = |seconds: f64| {
        (seconds / small_read * f64::from(SMALL_READ_UNITS)).clamp(0.0, UNITS_MAX).round() as u32
    };
    let read_ops = (1.0 / small_read).round() as u64;
    // What rounding does to a small read goes into the part that does not depend on its size.
    let read_kib = units(read_kib).min(SMALL_READ_UNITS / SMALL_KIB);
    let read_op = SMALL_READ_UNITS - read_kib * SMALL_KIB;
    Calibration {
        time_unix_ns,
        read_ops,
        write_ops: writes.small.per_second,
        read_bytes: reads.large.bytes_per_second(),
        write_bytes: writes.large.bytes_per_second(),
        read_latency_ns,
        window_commands: window_commands(reads.small.per_second, read_latency_ns),
        cost: Cost { read_op, read_kib, write_op: units(write_op), write_kib: units(write_kib) },
        capacity_units: read_ops.saturating_mul(u64::from(SMALL_READ_UNITS)),
    }
}

/// Commands that keep a device busy: what is at it when it does all that it can in the time that a command takes alone (Little's
/// law), and an eighth more, since commands come and go in batches. All that is beyond is a queue in the device's order, in which
/// also those stand who were promised not to: twice as much would make each wait for as long again as its command takes. A
/// quarter more was measured too (docs/performance.md): no more work was done, and a victim's median was a fifth longer.
fn window_commands(per_second: u64, latency_ns: u64) -> u32 {
    let at_it = u128::from(per_second) * u128::from(latency_ns) / 1_000_000_000;
    u32::try_from(at_it.saturating_mul(9) / 8).unwrap_or(u32::MAX).clamp(WINDOW_MIN, WINDOW_MAX)
}

/// The model that sidecores run.
#[must_use]
pub fn cost_model(calibration: Option<&Calibration>) -> CostModel {
    calibration.map_or_else(CostModel::default, |calibration| {
        let Cost { read_op, read_kib, write_op, write_kib } = calibration.cost;
        CostModel { read_op, read_kib, write_op, write_kib }
    })
}

/// A reservation in cost units a second.
#[must_use]
pub fn reserved_units(reservation_ops: u64, cost: &CostModel) -> u64 {
    reservation_ops.saturating_mul(u64::from(cost.cost(Io::read(SMALL_BYTES))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rates(small: u64, large: u64) -> Rates {
        Rates {
            small: Rate { bytes: 4096, per_second: small },
            large: Rate { bytes: 128 << 10, per_second: large },
        }
    }

    #[test]
    fn a_device_whose_requests_cost_a_part_and_their_size_is_found_out() {
        // A read of n KiB takes (1 + n/4) us, a write twice that: 500 000 and 30 303 reads a second.
        let calibration = calibration(rates(500_000, 30_303), rates(250_000, 15_151), 80_000, 7);
        assert_eq!(calibration.cost, Cost { read_op: 512, read_kib: 128, write_op: 1024, write_kib: 256 });
        assert_eq!((calibration.read_ops, calibration.capacity_units), (500_000, 512_000_000));
        // Forty are at it when it is full.
        assert_eq!(calibration.window_commands, 45);
        assert_eq!(cost_model(Some(&calibration)), CostModel::default());
    }

    #[test]
    fn a_device_that_size_costs_nothing_has_requests_that_cost_the_same() {
        let calibration = calibration(rates(1_000_000, 1_200_000), rates(1_000_000, 1_000_000), 2_000, 7);
        assert_eq!(calibration.cost, Cost { read_op: 1024, read_kib: 0, write_op: 1024, write_kib: 0 });
    }

    proptest! {
        /// Whatever is measured, a small read costs what it always costs, and no request costs nothing.
        #[test]
        fn a_reservation_means_the_same_on_every_device(
            small in 1..10_000_000u64, large in 1..10_000_000u64, writes in (1..10_000_000u64, 1..10_000_000u64),
            latency in 0..u64::MAX,
        ) {
            let calibration = calibration(rates(small, large), rates(writes.0, writes.1), latency, 0);
            let cost = cost_model(Some(&calibration));
            prop_assert_eq!(cost.cost(Io::read(SMALL_BYTES)), SMALL_READ_UNITS);
            prop_assert_eq!(reserved_units(7, &cost), reserved_units(7, &CostModel::default()));
            prop_assert!(cost.cost(Io::write(SMALL_BYTES)) >= 1);
            prop_assert_eq!(calibration.capacity_units / u64::from(SMALL_READ_UNITS), calibration.read_ops);
        }
    }
}
