//! The lines to the sidecores: orders out, answers back to whoever gave the order.

use std::collections::{HashMap, VecDeque};

use vfiomux_rpc::SidecoreMode;
use vfiomux_sidecore::{Answer, Handle, Order, SidecoreThread, Ticket};

use super::Control;
use super::queue::DeviceQueue;

pub(crate) type DeviceOrder = Order<DeviceQueue>;
pub(crate) type DeviceAnswer = Answer<DeviceQueue>;

/// What to do with an answer.
pub(crate) type Next = Box<dyn FnOnce(&mut Control, DeviceAnswer)>;

/// One sidecore, as control sees it.
pub(crate) struct Line {
    pub(crate) handle: Handle<DeviceQueue>,
    pub(crate) cpu: Option<u32>,
    pub(crate) mode: SidecoreMode,
    thread: Option<SidecoreThread<DeviceQueue>>,
    waiting: HashMap<Ticket, Next>,
    /// Orders that the mailbox had no room for, in order.
    unsent: VecDeque<(DeviceOrder, Next)>,
    /// Counters at the last look, for the busy share: (time, busy).
    pub(crate) last_look_ns: (u64, u64),
    pub(crate) busy_permille: u32,
    /// Breaths at the last look, and looks since they last changed while it was awake.
    pub(crate) last_breaths: u64,
    pub(crate) looks: u32,
}

impl Line {
    pub(crate) fn new(thread: SidecoreThread<DeviceQueue>, cpu: Option<u32>, mode: SidecoreMode) -> Self {
        Self {
            handle: thread.handle().clone(),
            cpu,
            mode,
            thread: Some(thread),
            waiting: HashMap::new(),
            unsent: VecDeque::new(),
            last_look_ns: (0, 0),
            busy_permille: 0,
            last_breaths: 0,
            looks: 0,
        }
    }

    /// Gives an order. Orders reach the sidecore in the order given.
    pub(crate) fn send(&mut self, order: DeviceOrder, next: Next) {
        self.unsent.push_back((order, next));
        self.flush();
    }

    /// Sends what the mailbox has room for.
    pub(crate) fn flush(&mut self) {
        while let Some((order, next)) = self.unsent.pop_front() {
            match self.handle.send(order) {
                Ok(ticket) => {
                    self.waiting.insert(ticket, next);
                }
                Err(order) => {
                    self.unsent.push_front((order, next));
                    return;
                }
            }
        }
    }

    /// Who waits for an answer.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Next> {
        self.waiting.remove(&ticket)
    }
}

impl Line {
    /// Looks how busy the sidecore was since the last look, about once a second.
    pub(crate) fn look(&mut self, now_ns: u64) {
        let (then_ns, then_busy_ns) = self.last_look_ns;
        let span_ns = now_ns.saturating_sub(then_ns);
        if span_ns < 1_000_000_000 {
            return;
        }
        let busy_ns = self.handle.counters().busy_ns.get();
        let permille = busy_ns.saturating_sub(then_busy_ns).saturating_mul(1000) / span_ns;
        self.busy_permille = u32::try_from(permille.min(1000)).unwrap_or(1000);
        self.last_look_ns = (now_ns, busy_ns);
    }

    /// Has the sidecore end, and waits for its thread.
    pub(crate) fn end(&mut self) {
        self.send(Order::Shutdown, Box::new(|_, _| {}));
        if let Some(thread) = self.thread.take() {
            // A sidecore that panicked has said so already, and there is nothing left to save.
            let _ = thread.join();
        }
    }
}
