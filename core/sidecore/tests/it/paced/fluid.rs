//! What each client is due while nobody begins or stops, as if the device could be poured.
//!
//! An independent reference, and the only one that says what limits and waking clients come to together: the paper's own tags of a
//! client that waits for its limit fall behind, and whoever wakes then begins as far behind. Here nothing has a tag or a past.

use super::{CAPACITY, Client};

/// The most that a client may have, in cost units a second.
fn cap(client: &Client) -> f64 {
    let cost = f64::from(vfiomux_qos::CostModel::default().cost(client.io));
    let limits = client.guarantees.limits;
    let ops = limits.ops.map_or(f64::INFINITY, |rate| rate.per_second as f64 * cost);
    let bytes =
        limits.bytes.map_or(f64::INFINITY, |rate| rate.per_second as f64 * cost / f64::from(client.io.bytes));
    ops.min(bytes)
}

/// Cost units a second that each of those who ask is due: its reservation or what its share is worth at one level for all,
/// whichever is more, and no more than its limit. The level is the one at which the device is just full.
pub(super) fn due(clients: &[Client], asks: &[bool]) -> Vec<f64> {
    let at = |level: f64| -> Vec<f64> {
        let one = |(client, &asks): (&Client, &bool)| {
            let wants =
                (client.guarantees.reservation as f64).max(level * f64::from(client.guarantees.share));
            if asks { wants.min(cap(client)) } else { 0.0 }
        };
        clients.iter().zip(asks).map(one).collect()
    };
    let (mut low, mut high) = (0.0, CAPACITY as f64);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if at(middle).iter().sum::<f64>() < CAPACITY as f64 { low = middle } else { high = middle }
    }
    at(low)
}
