//! How far apart two cores are just now.

use std::hint;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cores;

/// Rounds in a batch, and batches, of which the median counts: a batch in which something else ran is not it.
const ROUNDS: u64 = 1000;
const BATCHES: usize = 15;
/// A core that is not ours for this long makes the probe fail instead of last.
const PATIENCE: Duration = Duration::from_secs(1);

/// Time for a cache line to get from one core to the other, ns. `None` when the cores are the same one, or taken.
pub(crate) fn one_way_ns(one: u32, other: u32) -> Option<f64> {
    if one == other {
        return None;
    }
    let ball = AtomicU64::new(0);
    let ends_at = Instant::now() + PATIENCE;
    // Even numbers are for the other side to answer, odd ones for this side. A side that gives up says so with `GONE`.
    const GONE: u64 = u64::MAX;
    let wait_for = |value: u64| {
        let mut looks = 0_u32;
        loop {
            // Pairs with the release store of the other side.
            match ball.load(Ordering::Acquire) {
                seen if seen == value => return true,
                GONE => return false,
                _ => {}
            }
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(4096) && Instant::now() > ends_at {
                ball.store(GONE, Ordering::Release);
                return false;
            }
            hint::spin_loop();
        }
    };
    let last = 2 * ROUNDS * BATCHES as u64;
    thread::scope(|scope| {
        scope.spawn(|| {
            if cores::pin(&[other]).is_err() {
                ball.store(GONE, Ordering::Release);
            }
            let mut turn = 1;
            while turn < last && wait_for(turn) {
                ball.store(turn + 1, Ordering::Release);
                turn += 2;
            }
        });
        let serve = scope.spawn(|| {
            cores::pin(&[one]).ok()?;
            let mut batches = Vec::with_capacity(BATCHES);
            let mut turn = 0;
            for _ in 0..BATCHES {
                let began = Instant::now();
                for _ in 0..ROUNDS {
                    ball.store(turn + 1, Ordering::Release);
                    turn += 2;
                    if !wait_for(turn) {
                        return None;
                    }
                }
                batches.push(began.elapsed().as_nanos() as f64 / (2 * ROUNDS) as f64);
            }
            batches.sort_by(f64::total_cmp);
            batches.get(BATCHES / 2).copied()
        });
        let result = serve.join().ok().flatten();
        ball.store(GONE, Ordering::Release);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_is_no_pair() {
        assert_eq!(one_way_ns(0, 0), None);
    }

    #[test]
    fn a_core_that_does_not_exist_is_no_partner() {
        assert_eq!(one_way_ns(0, 1000), None);
    }
}
