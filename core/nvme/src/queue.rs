//! The data side: one completion queue and the lanes whose commands complete on it. Owned by one sidecore.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use vfiomux_block::{BlockQueue, Command, Completion, LaneId, Segment, Status, SubmitError, Tag};
use vfiomux_hw::{Iova, Vector};

use crate::QueueId;
use crate::lane::Lane;
use crate::link::Link;
use crate::rings::CompletionRing;

/// One sidecore's way to one controller: an I/O completion queue and its lanes.
///
/// Made by [`Controller::create_queue`](crate::Controller::create_queue). A lane's identifier is its submission queue's
/// number, so a completion finds its lane by one index. Channels may share a lane: tags are the submitter's.
///
/// The sum of commands in flight over all lanes never exceeds what the completion queue holds, so the lanes' depths may.
#[derive(Debug)]
pub struct Queue {
    ring: CompletionRing,
    /// By submission queue number.
    lanes: Box<[Option<Lane>]>,
    /// Lanes with commands that the controller has not been told of. Never grows: each lane is in it once.
    dirty: Vec<LaneId>,
    in_flight: usize,
    capacity: usize,
    /// Entries of the completion queue seen so far.
    consumed: u64,
    strays: u64,
    vector: Option<Vector>,
    link: Arc<Link>,
    incarnation: u32,
    id: QueueId,
}

impl Queue {
    /// A queue with room for lanes up to number `lanes_max`.
    pub(crate) fn new(
        id: QueueId,
        ring: CompletionRing,
        lanes_max: u16,
        vector: Option<Vector>,
        link: Arc<Link>,
    ) -> Self {
        Self {
            capacity: ring.capacity(),
            ring,
            lanes: (0..=lanes_max).map(|_| None).collect(),
            dirty: Vec::with_capacity(usize::from(lanes_max) + 1),
            in_flight: 0,
            consumed: 0,
            strays: 0,
            vector,
            incarnation: link.incarnation(),
            link,
            id,
        }
    }

    /// The completion queue's number.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// How many commands can be in flight, over all lanes.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.capacity
    }

    /// Whether the controller still serves the queue: it was neither reset nor removed since.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.link.lives(self.incarnation)
    }

    pub(crate) fn iova(&self) -> Iova {
        self.ring.iova()
    }

    pub(crate) fn entries_0based(&self) -> u16 {
        self.ring.entries_0based()
    }

    #[inline]
    fn lane(&self, lane: LaneId) -> Option<&Lane> {
        self.lanes.get(usize::from(lane.0))?.as_ref()
    }

    #[inline]
    fn lane_mut(&mut self, lane: LaneId) -> Option<&mut Lane> {
        self.lanes.get_mut(usize::from(lane.0))?.as_mut()
    }

    fn drain_vector(&self) {
        if let Some(vector) = &self.vector {
            // The descriptor does not block; there is nothing to read when no interrupt came.
            let _ = vector.read();
        }
    }
}

impl BlockQueue for Queue {
    type Lane = Lane;

    /// # Panics
    ///
    /// When the lane was made for another queue, or its number is taken: the control side mixed its queues up, and
    /// commands would complete where nobody looks.
    fn attach(&mut self, mut lane: Lane) -> LaneId {
        let id = lane.id();
        assert_eq!(lane.queue(), self.id, "a lane attached to a queue that its commands do not complete on");
        // Completions of an earlier lane of this number lie before this point. The control side saw that lane's deletion
        // complete, which comes after all its completions (NVMe 2.0c 5.7), so they are all visible by now (I1).
        lane.born = self.consumed + self.ring.pending() as u64;
        let place = self.lanes.get_mut(usize::from(id.0)).filter(|place| place.is_none());
        *place.expect("a lane attached twice") = Some(lane);
        id
    }

    fn detach(&mut self, lane: LaneId) -> Option<Lane> {
        let place = self.lanes.get_mut(usize::from(lane.0))?;
        if place.as_ref()?.in_flight() > 0 {
            return None;
        }
        self.dirty.retain(|&dirty| dirty != lane);
        place.take()
    }

    #[inline]
    fn room(&self, lane: LaneId) -> usize {
        self.lane(lane).map_or(0, Lane::room).min(self.capacity.saturating_sub(self.in_flight))
    }

    #[inline]
    fn in_flight(&self, lane: LaneId) -> usize {
        self.lane(lane).map_or(0, Lane::in_flight)
    }

    #[inline]
    fn in_flight_total(&self) -> usize {
        self.in_flight
    }

    #[inline]
    fn submit(
        &mut self,
        lane: LaneId,
        tag: Tag,
        command: &Command,
        data: &[Segment],
    ) -> Result<(), SubmitError> {
        let Some(Some(to)) = self.lanes.get_mut(usize::from(lane.0)) else {
            return Err(SubmitError::NoLane);
        };
        if !self.link.lives(self.incarnation) {
            return Err(SubmitError::NoLane);
        }
        if self.in_flight >= self.capacity {
            return Err(SubmitError::Full);
        }
        to.submit(&self.link, tag, command, data)?;
        self.in_flight += 1;
        if !to.dirty {
            to.dirty = true;
            self.dirty.push(lane);
        }
        Ok(())
    }

    #[inline]
    fn ring(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let live = self.link.lives(self.incarnation);
        while let Some(id) = self.dirty.pop() {
            if let Some(lane) = self.lane_mut(id) {
                lane.dirty = false;
                if live {
                    lane.ring();
                }
            }
        }
    }

    #[inline]
    fn poll(&mut self, budget: usize, sink: &mut impl FnMut(Completion)) -> usize {
        let (mut seen, mut ended) = (0, 0);
        while seen < budget {
            let Some(tail) = self.ring.peek() else { break };
            self.ring.advance();
            let position = self.consumed + seen as u64;
            seen += 1;
            // A completion from before the lane was there is none of its own (I1).
            let completion = match self.lanes.get_mut(usize::from(tail.sq_id())) {
                Some(Some(lane)) if position >= lane.born => lane.complete(tail),
                _ => None,
            };
            let Some(completion) = completion else { continue };
            ended += 1;
            sink(completion);
        }
        if seen > 0 {
            self.consumed += seen as u64;
            self.in_flight -= ended;
            self.strays += (seen - ended) as u64;
            if self.link.lives(self.incarnation) {
                self.ring.publish();
            }
        }
        ended
    }

    fn abandon(&mut self, lane: LaneId, sink: &mut impl FnMut(Completion)) {
        let status = if self.link.is_gone() { Status::Gone } else { Status::Aborted };
        let mut ended = 0;
        if let Some(lane) = self.lane_mut(lane) {
            lane.abandon(|tag| {
                ended += 1;
                sink(Completion { tag, status });
            });
        }
        self.in_flight -= ended;
    }

    fn device_ids(&self, lane: LaneId, into: &mut Vec<(u16, u16)>) {
        into.extend(self.lane(lane).into_iter().flat_map(Lane::cids).map(|cid| (lane.0, cid)));
    }

    fn stray_completions(&self) -> u64 {
        self.strays
    }

    fn wake_fd(&self) -> Option<RawFd> {
        self.vector.as_ref().map(|vector| vector.as_raw_fd())
    }

    /// MSI-X stays enabled throughout, so arming is looking. A completion before the look is seen by it, one after it raises the
    /// descriptor (V3). One that was taken without a sleep leaves the descriptor raised: whoever waits for its edge is woken
    /// once for nothing, and whoever waits for its level drains it by [`disarm`](Self::disarm) first.
    fn arm(&mut self) -> bool {
        // Full: the look below must not be done before what the caller has read of earlier wake-ups. Pairs with the
        // controller's order, completion before interrupt (NVMe 2.0c 3.3.3.2), and the kernel's, interrupt before the
        // descriptor's count.
        fence(Ordering::SeqCst);
        self.ring.peek().is_some()
    }

    fn disarm(&mut self) {
        self.drain_vector();
    }
}
