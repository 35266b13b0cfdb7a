//! What each tenant does to its channel.

use vfiomux_frontend::Shape;

use crate::pattern::BLOCK_BYTES;

/// A tenant, its channel, and how it uses it.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) channel: &'static str,
    pub(crate) tenant: &'static str,
    /// Number in the tenant's blocks.
    pub(crate) tenant_number: u64,
    /// Size of the channel.
    pub(crate) size_bytes: u64,
    pub(crate) queues: u16,
    /// Requests in flight on each queue.
    pub(crate) requests: u16,
    /// Blocks of a request.
    pub(crate) request_blocks: usize,
    /// Of a hundred requests, so many are reads and the others writes.
    pub(crate) read_percent: u64,
    /// One request after the other, or anywhere.
    pub(crate) order: Order,
}

/// Where requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Random,
    Sequential,
}

/// Two tenants that have nothing in common but the controller: one wants many small requests, one few large ones.
pub(crate) const WORKLOADS: [Workload; 2] = [
    Workload {
        channel: "alpha",
        tenant: "acme",
        tenant_number: 1,
        size_bytes: 256 << 20,
        queues: 2,
        requests: 16,
        request_blocks: 1,
        read_percent: 70,
        order: Order::Random,
    },
    Workload {
        channel: "beta",
        tenant: "globex",
        tenant_number: 2,
        size_bytes: 256 << 20,
        queues: 1,
        requests: 8,
        request_blocks: 16,
        read_percent: 50,
        order: Order::Sequential,
    },
];

/// Blocks of a request when all is read back in the end.
pub(crate) const READ_BACK_BLOCKS: usize = 16;

impl Workload {
    /// Blocks of the channel.
    pub(crate) fn blocks(&self) -> usize {
        self.size_bytes as usize / BLOCK_BYTES
    }

    /// The session it needs.
    pub(crate) fn shape(&self) -> Shape {
        let blocks = self.request_blocks.max(READ_BACK_BLOCKS);
        Shape { queues: self.queues, requests: self.requests, request_bytes: (blocks * BLOCK_BYTES) as u32 }
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        let order = match self.order {
            Order::Random => "anywhere",
            Order::Sequential => "in sequence",
        };
        let (kib, reads) = (self.request_blocks * BLOCK_BYTES / 1024, self.read_percent);
        let in_flight = self.requests * self.queues;
        format!(
            "{kib} KiB {order}, {reads} % reads, {in_flight} in flight on {}",
            plural(self.queues.into(), "queue")
        )
    }
}

/// A count with its noun.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
