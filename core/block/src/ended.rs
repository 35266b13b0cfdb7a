//! The lanes of a device that we play ourselves: a command ends where it is submitted, and waits to be polled.

use crate::{Completion, LaneId, Status, SubmitError, Tag};

/// A lane of a [`crate::NullQueue`] or [`crate::RamQueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalLane {
    /// Most commands in flight.
    pub depth: u16,
}

/// One lane's place in the table.
#[derive(Debug, Clone, Copy)]
struct Place {
    lane: LocalLane,
    in_flight: u16,
}

/// What has ended and was not polled yet.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    lanes: Vec<Option<Place>>,
    /// In the order in which they ended; those before `taken` were polled. As a rule all are, at once.
    ///
    /// At most the depths of all lanes together wait. There is room for twice that when a lane is attached, so that those taken
    /// are cleared away once in as many commands.
    waiting: Vec<(LaneId, Completion)>,
    taken: usize,
}

impl Ended {
    pub(crate) fn attach(&mut self, lane: LocalLane) -> LaneId {
        self.clear_away();
        let room = 2 * (usize::from(lane.depth) + self.depth_sum());
        self.waiting.reserve(room - self.waiting.len());
        let place = Some(Place { lane, in_flight: 0 });
        let free = self.lanes.iter().position(Option::is_none);
        let index = free.unwrap_or(self.lanes.len());
        match self.lanes.get_mut(index) {
            Some(slot) => *slot = place,
            None => self.lanes.push(place),
        }
        LaneId(u16::try_from(index).unwrap_or(u16::MAX))
    }

    fn depth_sum(&self) -> usize {
        self.lanes.iter().flatten().map(|place| usize::from(place.lane.depth)).sum()
    }

    pub(crate) fn detach(&mut self, lane: LaneId) -> Option<LocalLane> {
        let slot = self.lanes.get_mut(usize::from(lane.0))?;
        slot.take_if(|place| place.in_flight == 0).map(|place| place.lane)
    }

    #[inline]
    pub(crate) fn room(&self, lane: LaneId) -> usize {
        self.place(lane).map_or(0, |place| usize::from(place.lane.depth - place.in_flight))
    }

    pub(crate) fn in_flight(&self, lane: LaneId) -> usize {
        self.place(lane).map_or(0, |place| usize::from(place.in_flight))
    }

    pub(crate) fn in_flight_total(&self) -> usize {
        self.waiting.len() - self.taken
    }

    #[inline]
    fn place(&self, lane: LaneId) -> Option<&Place> {
        self.lanes.get(usize::from(lane.0))?.as_ref()
    }

    #[inline]
    fn place_mut(&mut self, lane: LaneId) -> Option<&mut Place> {
        self.lanes.get_mut(usize::from(lane.0))?.as_mut()
    }

    /// Lets `run` end a command, if the lane has room for one.
    #[inline(always)]
    pub(crate) fn submit(
        &mut self,
        lane: LaneId,
        tag: Tag,
        run: impl FnOnce() -> Status,
    ) -> Result<(), SubmitError> {
        let place = self.place_mut(lane).ok_or(SubmitError::NoLane)?;
        if place.in_flight == place.lane.depth {
            return Err(SubmitError::Full);
        }
        place.in_flight += 1;
        let completion = Completion { tag, status: run() };
        if self.waiting.len() == self.waiting.capacity() {
            self.clear_away();
        }
        self.waiting.push((lane, completion));
        Ok(())
    }

    #[inline]
    pub(crate) fn poll(&mut self, budget: usize, sink: &mut impl FnMut(Completion)) -> usize {
        // Asked in every breath, and told here that there is nothing as a rule: what ended was taken in the turn that submitted it.
        if self.is_empty() {
            return 0;
        }
        let Self { lanes, waiting, taken } = self;
        let ready = waiting.get(*taken..).unwrap_or_default();
        let ready = ready.get(..budget).unwrap_or(ready);
        for &(lane, completion) in ready {
            if let Some(Some(place)) = lanes.get_mut(usize::from(lane.0)) {
                place.in_flight -= 1;
            }
            sink(completion);
        }
        let count = ready.len();
        *taken += count;
        if *taken == waiting.len() {
            waiting.clear();
            *taken = 0;
        }
        count
    }

    /// Forgets what was polled.
    #[cold]
    fn clear_away(&mut self) {
        self.waiting.drain(..self.taken);
        self.taken = 0;
    }

    /// Ends what a lane has waiting as aborted. What was done stays done, as it may on a device.
    pub(crate) fn abandon(&mut self, lane: LaneId, sink: &mut impl FnMut(Completion)) {
        self.clear_away();
        self.waiting.retain(|&(owner, completion)| {
            if owner == lane {
                sink(Completion { status: Status::Aborted, ..completion });
            }
            owner != lane
        });
        if let Some(place) = self.place_mut(lane) {
            place.in_flight = 0;
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit(ended: &mut Ended, lane: LaneId, tag: u64) {
        ended.submit(lane, Tag(tag), || Status::Success).unwrap();
    }

    fn polled(ended: &mut Ended, budget: usize) -> Vec<u64> {
        let mut tags = Vec::new();
        let count = ended.poll(budget, &mut |completion| tags.push(completion.tag.0));
        assert_eq!(count, tags.len());
        tags
    }

    #[test]
    fn what_is_polled_in_parts_comes_in_order_and_allocates_nothing() {
        let mut ended = Ended::default();
        let lanes = [ended.attach(LocalLane { depth: 3 }), ended.attach(LocalLane { depth: 2 })];
        let room = ended.waiting.capacity();
        let mut taken = Vec::new();
        for tag in 0..4 {
            submit(&mut ended, lanes[tag as usize % 2], tag);
        }
        for tag in 4..200 {
            taken.extend(polled(&mut ended, 1));
            let lane = if ended.room(lanes[0]) > 0 { lanes[0] } else { lanes[1] };
            submit(&mut ended, lane, tag);
        }
        taken.extend(polled(&mut ended, usize::MAX));
        assert_eq!(taken, Vec::from_iter(0..200));
        assert!(ended.is_empty() && ended.waiting.capacity() == room);
        assert_eq!((ended.in_flight(lanes[0]), ended.in_flight(lanes[1])), (0, 0));
    }

    #[test]
    fn a_lane_that_is_abandoned_takes_what_was_not_polled_with_it() {
        let mut ended = Ended::default();
        let lanes = [ended.attach(LocalLane { depth: 4 }), ended.attach(LocalLane { depth: 4 })];
        for tag in 0..6 {
            submit(&mut ended, lanes[tag as usize % 2], tag);
        }
        assert_eq!(polled(&mut ended, 3), [0, 1, 2]);
        let mut aborted = Vec::new();
        ended.abandon(lanes[1], &mut |completion| aborted.push((completion.tag.0, completion.status)));
        assert_eq!(aborted, [(3, Status::Aborted), (5, Status::Aborted)]);
        assert_eq!(polled(&mut ended, usize::MAX), [4]);
    }
}
