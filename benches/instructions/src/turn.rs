//! Guarantees: whether a request may go, and whose turn it is.

use std::hint::black_box;

use vfiomux_qos::{CostModel, Guarantees, Io, Limiter, Limits, Next, Program, Rate, Scheduler};

use crate::{OPERATIONS, counted};

/// Nanoseconds between two requests: what the limits below allow.
const PACE_NS: u64 = 1_000;
const REQUEST: Io = Io::read(4096);

fn program(limits: Limits, reservation: u64) -> Program {
    let guarantees = Guarantees { limits, reservation, ..Guarantees::default() };
    Program::compile(&guarantees, CostModel::default()).expect("guarantees in range")
}

/// A channel's limits.
#[derive(Debug)]
pub struct Admission {
    limiter: Limiter,
}

impl Admission {
    /// No limits.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { limiter: Limiter::new(program(Limits::default(), 0), 0) }
    }

    /// A limit of operations and one of bytes, both just wide enough.
    #[must_use]
    pub fn limited() -> Self {
        let rate = |each: u64| Some(Rate { per_second: each * 1_000_000, burst: each * 32 });
        let limits = Limits { ops: rate(1), bytes: rate(u64::from(REQUEST.bytes)), ..Limits::default() };
        Self { limiter: Limiter::new(program(limits, 0), 0) }
    }

    /// Earns what the time is worth, and takes what a request takes, in turns of one request.
    pub fn run(&mut self) {
        let Self { limiter } = self;
        let mut admitted = 0;
        counted(&mut || {
            for number in 1..=u64::from(OPERATIONS) {
                let now_ns = number * PACE_NS;
                limiter.begin(now_ns);
                admitted += u32::from(black_box(limiter.take(black_box(REQUEST), false, now_ns)));
                limiter.end();
            }
        });
        assert_eq!(admitted, OPERATIONS);
    }
}

/// A device's scheduler, with channels that always have requests.
#[derive(Debug)]
pub struct Turns {
    scheduler: Scheduler,
}

impl Turns {
    /// As many channels. With a reservation all that they get is theirs by it; without, by their shares.
    #[must_use]
    pub fn new(channels: u16, reserved: bool) -> Self {
        let mut scheduler = Scheduler::new(channels);
        // More than there is, so that everybody is always behind.
        let program = program(Limits::default(), if reserved { 1 << 30 } else { 0 });
        for place in 0..channels {
            scheduler.add(place, &program).expect("a place");
            scheduler.ready(place, 0);
        }
        Self { scheduler }
    }

    /// Finds whose turn it is, and charges it for a request.
    pub fn run(&mut self) {
        let Self { scheduler } = self;
        let mut turns = 0;
        let cost = u64::from(CostModel::default().cost(REQUEST));
        counted(&mut || {
            for number in 1..=u64::from(OPERATIONS) {
                let Next::Turn(turn) = black_box(scheduler.next(number * PACE_NS)) else { break };
                scheduler.charge(turn, black_box(cost));
                turns += 1;
            }
        });
        assert_eq!(turns, OPERATIONS);
    }
}
