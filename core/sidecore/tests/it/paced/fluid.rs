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
    due_within(clients, asks, &|_| 0.0, f64::INFINITY)
}

/// The same, of clients who are held together: what each of them takes of their limit for a unit of cost, which is nothing for one
/// who is no part of them, and how much of that there is in a second. Among them, each is due what its share is worth of the limit at a
/// level of their own, and no more than without it. A reservation is nobody's here who is held so.
pub(super) fn due_within(
    clients: &[Client],
    asks: &[bool],
    takes: &dyn Fn(&Client) -> f64,
    most: f64,
) -> Vec<f64> {
    let at = |level: f64| -> Vec<f64> {
        let one = |(client, &asks): (&Client, &bool)| {
            let wants =
                (client.guarantees.reservation as f64).max(level * f64::from(client.guarantees.share));
            if asks { wants.min(cap(client)) } else { 0.0 }
        };
        let free: Vec<f64> = clients.iter().zip(asks).map(one).collect();
        // What their shares are worth of the limit, at a level of theirs.
        let held = |level: f64| -> Vec<f64> {
            let one = |(client, &free): (&Client, &f64)| match takes(client) {
                0.0 => free,
                each => free.min(level * f64::from(client.guarantees.share) / each),
            };
            clients.iter().zip(&free).map(one).collect()
        };
        let taken = |due: &[f64]| -> f64 { clients.iter().zip(due).map(|(one, due)| takes(one) * due).sum() };
        if taken(&free) <= most {
            return free;
        }
        held(highest(most, |level| taken(&held(level)) < most))
    };
    at(highest(CAPACITY as f64, |level| at(level).iter().sum::<f64>() < CAPACITY as f64))
}

/// The highest level up to `most` that is still below.
fn highest(most: f64, below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, most);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if below(middle) { low = middle } else { high = middle }
    }
    low
}
