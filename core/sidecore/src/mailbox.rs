//! The two queues between control and a sidecore, and the handshake that lets the sidecore sleep (V3).
//!
//! ```text
//!   control   push order;  fence;  asleep?  ──yes──► write the wake descriptor
//!   sidecore  asleep := true;  fence;  look again at orders (and rings)  ──nothing──► sleep
//! ```
//!
//! Of the two fences one comes first in the total order of sequentially consistent fences. If it is control's, the
//! sidecore's second look sees the order; if it is the sidecore's, control sees that it sleeps. The same shape protects
//! the rings, with the guest in control's place.

use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use vfiomux_block::BlockQueue;

use crate::signal::Signal;
use crate::{Order, Report, SidecoreCounters, SidecoreError, Ticket};

/// What both sides share.
#[derive(Debug)]
pub(crate) struct Mailbox<Q: BlockQueue> {
    orders: ArrayQueue<(Ticket, Order<Q>)>,
    reports: ArrayQueue<Report<Q>>,
    asleep: AtomicBool,
    next_ticket: AtomicU64,
    /// Readable when the sidecore is to wake up.
    wake: Signal,
    /// Readable when there are reports.
    reported: Signal,
    counters: SidecoreCounters,
}

impl<Q: BlockQueue> Mailbox<Q> {
    /// A mailbox for `orders_max` orders, and as many reports at a time.
    pub(crate) fn new(orders_max: usize) -> Result<Arc<Self>, SidecoreError> {
        Ok(Arc::new(Self {
            orders: ArrayQueue::new(orders_max.max(1)),
            reports: ArrayQueue::new(orders_max.max(1)),
            asleep: AtomicBool::new(false),
            next_ticket: AtomicU64::new(1),
            wake: Signal::new()?,
            reported: Signal::new()?,
            counters: SidecoreCounters::default(),
        }))
    }

    pub(crate) fn take_order(&self) -> Option<(Ticket, Order<Q>)> {
        self.orders.pop()
    }

    pub(crate) fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Gives the report back when control has left the queue full.
    pub(crate) fn report(&self, report: Report<Q>) -> Result<(), Report<Q>> {
        self.reports.push(report)?;
        self.reported.raise();
        Ok(())
    }

    /// Says that the sidecore is about to sleep. It must look at everything once more afterwards.
    pub(crate) fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `Handle::send`, and orders the second look at the rings behind arming them.
        fence(Ordering::SeqCst);
    }

    /// Says that the sidecore is awake.
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Empties the wake descriptor after it has fired.
    pub(crate) fn drain_wake(&self) {
        self.wake.clear();
    }

    pub(crate) fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    pub(crate) fn counters(&self) -> &SidecoreCounters {
        &self.counters
    }
}

/// Control's end of a sidecore: orders in, reports out. Clones share the one sidecore.
#[derive(Debug)]
pub struct Handle<Q: BlockQueue>(Arc<Mailbox<Q>>);

impl<Q: BlockQueue> Clone for Handle<Q> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q: BlockQueue> Handle<Q> {
    pub(crate) fn new(mailbox: Arc<Mailbox<Q>>) -> Self {
        Self(mailbox)
    }

    /// Gives the sidecore an order, and wakes it if it sleeps. The order comes back when the mailbox is full: take reports,
    /// then send it again.
    pub fn send(&self, order: Order<Q>) -> Result<Ticket, Order<Q>> {
        let ticket = Ticket(self.0.next_ticket.fetch_add(1, Ordering::Relaxed));
        self.0.orders.push((ticket, order)).map_err(|(_, order)| order)?;
        // Pairs with the fence in `Mailbox::fall_asleep`.
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed) {
            self.0.wake.raise();
        }
        Ok(ticket)
    }

    /// The next report, if there is one. When there is none, the report descriptor has been emptied before the last look.
    #[must_use]
    pub fn try_recv(&self) -> Option<Report<Q>> {
        self.0.reports.pop().or_else(|| {
            // Emptied first and looked again after: a report that comes in between is seen now, one that comes later makes
            // the descriptor readable again.
            self.0.reported.clear();
            self.0.reports.pop()
        })
    }

    /// Becomes readable when there are reports; [`Self::try_recv`] empties it.
    #[must_use]
    pub fn report_fd(&self) -> BorrowedFd<'_> {
        self.0.reported.as_fd()
    }

    /// What the sidecore has done so far.
    #[must_use]
    pub fn counters(&self) -> &SidecoreCounters {
        self.0.counters()
    }

    /// Whether the sidecore sleeps now.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.0.asleep.load(Ordering::Relaxed)
    }
}
