//! Asynchronous events (NVMe 2.0c 5.2).

use std::collections::VecDeque;

use vfiomux_spec::nvme::log::{
    self, ERROR_INVALID_DOORBELL_VALUE, EVENT_COMMAND_SET, EVENT_ERROR, EVENT_HEALTH, EVENT_NOTICE,
    EventResult, NOTICE_NAMESPACE_CHANGED, SANITIZE_COMPLETED,
};
use vfiomux_spec::nvme::{ADMIN_QUEUE_ID, Status};

use super::{Controller, Outcome};
use crate::iommu::Dma;

/// Requests that may be outstanding.
pub(super) const REQUESTS_MAX: u8 = 4;
/// Events that wait for a request; more are lost, as in a real controller.
const EVENTS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: VecDeque<u16>,
    raised: VecDeque<EventResult>,
    /// Types that were reported, and are silent until their log page has been read.
    masked: u8,
}

impl Events {
    /// A request waits for an event.
    pub(super) fn wait(&mut self, cid: u16) -> Result<(), Status> {
        if self.waiting.len() == usize::from(REQUESTS_MAX) {
            return Err(Status::ASYNC_EVENT_LIMIT);
        }
        self.waiting.push_back(cid);
        Ok(())
    }

    pub(super) fn is_waiting(&self, cid: u16) -> bool {
        self.waiting.contains(&cid)
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    fn raise(&mut self, kind: u8, information: u8, log_page: u8) {
        let event = EventResult::new().with_kind(kind).with_information(information).with_log_page(log_page);
        if self.raised.len() < EVENTS_MAX && !self.raised.contains(&event) {
            self.raised.push_back(event);
        }
    }

    pub(super) fn doorbell_error(&mut self) {
        self.raise(EVENT_ERROR, ERROR_INVALID_DOORBELL_VALUE, log::ERROR_INFORMATION);
    }

    pub(super) fn sanitized(&mut self) {
        self.raise(EVENT_COMMAND_SET, SANITIZE_COMPLETED, log::SANITIZE_STATUS);
    }

    /// A log page was read: the events that pointed at it are heard again.
    pub(super) fn read(&mut self, log_page: u8) {
        let kind = match log_page {
            log::ERROR_INFORMATION => EVENT_ERROR,
            log::HEALTH => EVENT_HEALTH,
            log::CHANGED_NAMESPACES => EVENT_NOTICE,
            log::SANITIZE_STATUS => EVENT_COMMAND_SET,
            _ => return,
        };
        self.masked &= !(1 << kind);
    }

    /// An event that can be reported now, and the request that reports it.
    fn next(&mut self) -> Option<(u16, EventResult)> {
        let masked = self.masked;
        let open = |event: &EventResult| masked & (1 << event.kind()) == 0;
        let index = self.raised.iter().position(open).filter(|_| !self.waiting.is_empty())?;
        let event = self.raised.remove(index)?;
        self.masked |= 1 << event.kind();
        Some((self.waiting.pop_front()?, event))
    }
}

impl Controller {
    /// Completes requests for which there is an event. Returns how many.
    pub(super) fn post_events(&mut self, dma: &Dma<'_>) -> usize {
        let mut done = 0;
        while !self.events.raised.is_empty() && self.room(ADMIN_QUEUE_ID) {
            let Some((cid, event)) = self.events.next() else { break };
            self.complete(dma, ADMIN_QUEUE_ID, cid, Outcome::result(event.into_bits()));
            done += 1;
        }
        done
    }

    /// A namespace now shows another size, and the host hears of it if it asked to.
    pub(crate) fn resize(&mut self, nsid: u32, size_bytes: u64) -> bool {
        let Ok(namespace) = self.namespace(nsid) else { return false };
        namespace.size_bytes = size_bytes.min(namespace.capacity_bytes);
        self.logs.namespace_changed(nsid);
        if self.features.events().namespace_changed() {
            self.events.raise(EVENT_NOTICE, NOTICE_NAMESPACE_CHANGED, log::CHANGED_NAMESPACES);
        }
        true
    }

    /// The health log now says this, and the host hears of it if it asked to.
    pub(crate) fn warn(&mut self, warning: log::CriticalWarning) {
        self.logs.warning = warning;
        let wanted = self.features.events().into_bits() & u32::from(warning.into_bits());
        let information = match wanted {
            0 => return,
            _ if wanted & 1 != 0 => log::HEALTH_SPARE,
            _ if wanted & 2 != 0 => log::HEALTH_TEMPERATURE,
            _ => log::HEALTH_RELIABILITY,
        };
        self.events.raise(EVENT_HEALTH, information, log::HEALTH);
    }
}
