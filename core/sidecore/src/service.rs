//! Commands of control's own, carried on a sidecore's lanes.

use vfiomux_block::Status;
use vfiomux_channel::CommandTag;
use vfiomux_hw::DmaBuffer;

use crate::Ticket;
use crate::probe::{PROBE_SLOTS, Running};

/// The commands of control's own that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Services {
    places: Vec<Option<Service>>,
    last_stamp: u32,
    /// Some have ended and are not answered.
    pub(crate) ended: bool,
    /// The measurement that goes on.
    pub(crate) probe: Option<Box<Running>>,
}

/// One of them.
#[derive(Debug)]
struct Service {
    ticket: Ticket,
    stamp: u32,
    device: u16,
    buffer: Option<DmaBuffer>,
    ended: Option<Status>,
}

impl Services {
    /// Keeps a command's buffer until it ends. Gives the tag to submit it with.
    pub(crate) fn begin(&mut self, ticket: Ticket, device: u16, buffer: Option<DmaBuffer>) -> CommandTag {
        self.last_stamp = self.last_stamp.wrapping_add(1).max(1);
        let stamp = self.last_stamp;
        let service = Some(Service { ticket, stamp, device, buffer, ended: None });
        let free = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        match self.places.get_mut(free) {
            Some(place) => *place = service,
            None => self.places.push(service),
        }
        CommandTag { owner: CommandTag::SERVICE, slot: free as u16, stamp }
    }

    /// Forgets a command that was not taken. Gives its buffer back.
    pub(crate) fn recall(&mut self, tag: CommandTag) -> Option<DmaBuffer> {
        self.places.get_mut(usize::from(tag.slot))?.take()?.buffer
    }

    /// A command has ended. False: none with that tag is in flight on that device.
    pub(crate) fn end(&mut self, tag: CommandTag, status: Status, device: u16) -> bool {
        if tag.slot >= PROBE_SLOTS {
            return self.probe.as_mut().is_some_and(|probe| probe.end(tag, status, device));
        }
        let place = self.places.get_mut(usize::from(tag.slot)).and_then(Option::as_mut);
        let known = |service: &&mut Service| {
            service.stamp == tag.stamp && service.device == device && service.ended.is_none()
        };
        let Some(service) = place.filter(known) else { return false };
        service.ended = Some(status);
        self.ended = true;
        true
    }

    /// Takes one out that has ended.
    pub(crate) fn take_ended(&mut self) -> Option<(Ticket, Status, Option<DmaBuffer>)> {
        let place = self
            .places
            .iter_mut()
            .find(|place| place.as_ref().is_some_and(|service| service.ended.is_some()));
        let Some(service) = place.and_then(Option::take) else {
            self.ended = false;
            return None;
        };
        Some((service.ticket, service.ended?, service.buffer))
    }
}
