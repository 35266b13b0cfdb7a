//! mClock as the paper has it (Gulati, Merchant, Varman: mClock, OSDI 2010, Algorithm 1), in floating point and by looking at
//! everybody: tags are given to each request when it comes, and the tags of those that wait are shifted when somebody wakes.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times of a simulation are small and positive"
)]

use std::collections::VecDeque;
use std::vec::Vec;

use super::world::{Client, Order, Pick};
use crate::{CostModel, Guarantees};

/// Seconds; the tags of one request.
#[derive(Debug, Clone, Copy)]
struct Tags {
    reservation: f64,
    limit: f64,
    share: f64,
}

#[derive(Debug)]
struct Lane {
    /// Seconds that one of its requests takes at its reservation, at its limit, for its share.
    spacing: Tags,
    last: Tags,
    queue: VecDeque<Tags>,
}

pub(super) struct Reference {
    lanes: Vec<Lane>,
}

impl Reference {
    pub(super) fn new(clients: &[Client]) -> Self {
        let lane = |client: &Client| {
            let cost = f64::from(CostModel::default().cost(client.io));
            let Guarantees { limits, reservation, share } = client.guarantees;
            let spacing = Tags {
                reservation: if reservation == 0 { f64::INFINITY } else { cost / reservation as f64 },
                limit: limits.ops.map_or(0.0, |rate| 1.0 / rate.per_second as f64),
                share: cost / f64::from(share),
            };
            let never = Tags { reservation: -1e18, limit: -1e18, share: -1e18 };
            Lane { spacing, last: never, queue: VecDeque::new() }
        };
        Self { lanes: clients.iter().map(lane).collect() }
    }

    fn least(&self, allowed: impl Fn(&Tags) -> bool, key: impl Fn(&Tags) -> f64) -> Option<usize> {
        let heads = self.lanes.iter().enumerate().filter_map(|(at, lane)| Some((at, lane.queue.front()?)));
        let allowed = heads.filter(|(_, tags)| allowed(tags));
        allowed.min_by(|a, b| key(a.1).total_cmp(&key(b.1))).map(|(at, _)| at)
    }
}

impl Order for Reference {
    fn arrived(&mut self, client: usize, now_ns: u64) {
        let now = now_ns as f64 / 1e9;
        if self.lanes[client].queue.is_empty() {
            // Tag adjustment: the least share tag of those that wait becomes the present. The paper shifts those that wait;
            // here the last tags of those that do not are shifted along, since tags of small shares run far ahead of the
            // time and would mean nothing beside the shifted ones. Whoever waits for a limit only does not set the level,
            // or its lag would be everybody's. When nobody waits, all begin anew.
            let heads = self.lanes.iter().filter_map(|lane| lane.queue.front());
            let able = heads.filter(|tags| tags.limit <= now).map(|tags| tags.share);
            let level = able.reduce(f64::min);
            let shift = |share: f64| level.map_or(now, |level| share - level + now);
            for lane in &mut self.lanes {
                lane.last.share = shift(lane.last.share);
                lane.queue.iter_mut().for_each(|tags| tags.share = shift(tags.share));
            }
        }
        let Lane { spacing, last, queue } = &mut self.lanes[client];
        let tags = Tags {
            reservation: (last.reservation + spacing.reservation).max(now),
            limit: (last.limit + spacing.limit).max(now),
            share: (last.share + spacing.share).max(now),
        };
        *last = tags;
        queue.push_back(tags);
    }

    fn pick(&mut self, now_ns: u64) -> Pick {
        let now = now_ns as f64 / 1e9;
        if let Some(client) = self.least(|tags| tags.reservation <= now, |tags| tags.reservation) {
            self.lanes[client].queue.pop_front();
            return Pick::Request(client);
        }
        if let Some(client) = self.least(|tags| tags.limit <= now, |tags| tags.share) {
            let lane = &mut self.lanes[client];
            lane.queue.pop_front();
            if lane.spacing.reservation.is_finite() {
                lane.last.reservation -= lane.spacing.reservation;
                lane.queue.iter_mut().for_each(|tags| tags.reservation -= lane.spacing.reservation);
            }
            return Pick::Request(client);
        }
        let due = self.lanes.iter().filter_map(|lane| lane.queue.front()).map(|tags| tags.limit);
        let due = due.fold(f64::INFINITY, f64::min);
        if due.is_finite() { Pick::NotBefore((due * 1e9).ceil() as u64) } else { Pick::Nobody }
    }

    fn pause(&mut self, _now_ns: u64) {}

    fn retune(&mut self, _client: usize, _guarantees: &Guarantees, _now_ns: u64) {}
}
