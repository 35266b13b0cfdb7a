use vfiomux_qos::CostModel;

/// How a device is driven where its channels were promised something. Measured by calibration; the default stands in before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pace {
    /// What requests cost it.
    pub cost: CostModel,
    /// Commands that it may have of one sidecore: enough to keep it busy, since what is beyond waits where we decide its order.
    pub window_commands: u32,
    /// What a turn that the scheduler gives may cost, in cost units; the request that goes beyond is its last.
    pub slice_cost: u64,
}

impl Pace {
    /// Turns in a second of a device that is fully used: a slice is a quarter of a millisecond.
    const SLICES_PER_SECOND: u64 = 4_000;
    /// The smallest slice: a read of 4 KiB by the default model.
    const SLICE_COST_MIN: u64 = 1_024;

    /// How to drive a device that does so many cost units a second, and is kept busy by so many commands.
    #[must_use]
    pub fn of(cost: CostModel, cost_per_second: u64, window_commands: u32) -> Self {
        let slice_cost = (cost_per_second / Self::SLICES_PER_SECOND).max(Self::SLICE_COST_MIN);
        Self { cost, window_commands, slice_cost }
    }
}

impl Default for Pace {
    /// A fast device's window; a slice that is a quarter of a millisecond of one that does 32000 reads a second, and shorter on
    /// a faster one.
    fn default() -> Self {
        Self { cost: CostModel::default(), window_commands: 128, slice_cost: 8 * 1_024 }
    }
}
