/// A small generator (splitmix64): a handful of instructions a number, and the same seed makes the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Sixty-four random bits.
    #[inline]
    pub(crate) const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero.
    #[inline]
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        ((self.bits() as u128 * bound as u128) >> 64) as u64
    }

    /// An exponentially distributed number with mean 1: the time from one arrival to the next when nobody waits for anybody.
    pub(crate) fn exponential(&mut self) -> f64 {
        // 53 bits make a number below 1, so that the logarithm is of a number above 0.
        let below_one = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
        -(1.0 - below_one).ln()
    }
}

/// Spreads a number over all bits.
#[inline]
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_reach_every_place_below_the_bound_and_none_beyond() {
        let mut random = Random::new(1);
        let mut met = [0; 7];
        for _ in 0..7000 {
            met[random.below(7) as usize] += 1;
        }
        assert!(met.iter().all(|&times| (800..1200).contains(&times)), "{met:?}");
    }

    #[test]
    fn exponential_numbers_have_mean_one() {
        let mut random = Random::new(2);
        let sum: f64 = (0..100_000).map(|_| random.exponential()).sum();
        assert!((sum / 100_000.0 - 1.0).abs() < 0.02);
    }
}
