/// How many commands of ours a device has, and may have.
///
/// What is at the device is in the device's order. So no more goes there than keeps it busy, and the rest waits where we decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    most: u32,
    out: u32,
}

impl Window {
    /// A window of `most` commands, at least one.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { most: most.max(1), out: 0 }
    }

    /// How many it may have.
    #[inline]
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most
    }

    /// How many more may go.
    #[inline]
    #[must_use]
    pub fn room(&self) -> u32 {
        self.most.saturating_sub(self.out)
    }

    /// How many are at the device.
    #[inline]
    #[must_use]
    pub fn out(&self) -> u32 {
        self.out
    }

    /// Commands went to the device. More than there was room for makes the next ones wait longer.
    #[inline]
    pub fn sent(&mut self, commands: u32) {
        self.out = self.out.saturating_add(commands);
    }

    /// Commands have ended.
    #[inline]
    pub fn ended(&mut self, commands: u32) {
        self.out = self.out.saturating_sub(commands);
    }

    /// Changes how many may be there; those beyond are waited for.
    pub fn resize(&mut self, most: u32) {
        self.most = most.max(1);
    }
}
