//! Channels, devices and tenants as the plugin ABI has them. What is made here borrows its texts, and is used while a hook runs.

use std::pin::Pin;

use vfiomux_plugin_abi::{self as abi, Extensible as _, Text};
use vfiomux_policy::{Channel, Device, RateLimit, Sample, Tenant};

/// A channel. The structures point at each other, so each has a place of its own.
#[derive(Debug)]
pub(crate) struct ChannelSubject {
    /// Pointed at by `channel`.
    _labels: Pin<Box<[abi::Label]>>,
    /// Pointed at by `channel`.
    _guarantees: Pin<Box<abi::Guarantees>>,
    channel: Pin<Box<abi::Channel>>,
}

impl ChannelSubject {
    /// The texts are those of the channel, which must not change meanwhile.
    pub(crate) fn new(of: &Channel) -> Self {
        let labels: Box<[abi::Label]> = of
            .labels
            .iter()
            .map(|(key, value)| abi::Label { key: Text::new(key), value: Text::new(value) })
            .collect();
        let guarantees = Box::new(guarantees(of));
        let mut channel = Box::new(abi::Channel::empty());
        channel.queues = of.queues.into();
        channel.id = Text::new(&of.id);
        channel.name = Text::new(&of.name);
        channel.tenant = Text::new(&of.tenant);
        channel.device = Text::new(&of.device);
        channel.size_bytes = of.size_bytes;
        channel.generation = of.generation;
        channel.read_only = of.read_only.into();
        channel.labels_count = u32::try_from(labels.len()).unwrap_or(u32::MAX);
        channel.labels = labels.as_ptr();
        channel.guarantees = &raw const *guarantees;
        Self { _labels: labels.into(), _guarantees: guarantees.into(), channel: channel.into() }
    }

    pub(crate) fn as_ptr(&self) -> *const abi::Channel {
        &raw const *self.channel
    }
}

fn guarantees(of: &Channel) -> abi::Guarantees {
    let limit = |limit: Option<RateLimit>| {
        let (per_second, burst) = limit.map_or((0, 0), |limit| (limit.per_second, limit.burst.unwrap_or(0)));
        abi::RateLimit { per_second, burst }
    };
    let of = &of.guarantees;
    let mut guarantees = abi::Guarantees::empty();
    guarantees.share = of.share.unwrap_or(0);
    guarantees.ops = limit(of.ops);
    guarantees.bytes = limit(of.bytes);
    guarantees.read_ops = limit(of.read_ops);
    guarantees.read_bytes = limit(of.read_bytes);
    guarantees.write_ops = limit(of.write_ops);
    guarantees.write_bytes = limit(of.write_bytes);
    guarantees.reservation_ops = of.reservation_ops.unwrap_or(0);
    if let Some(objective) = of.objective {
        guarantees.objective_latency_ns = objective.latency_ns;
        guarantees.objective_permille = objective.permille.into();
    }
    guarantees
}

pub(crate) fn device(of: &Device) -> abi::Device {
    let mut device = abi::Device::empty();
    device.queues_max = of.queues_max.into();
    device.name = Text::new(&of.name);
    device.capacity_bytes = of.capacity_bytes;
    device.free_bytes = of.free_bytes;
    device.calibrated_ops = of.calibrated_ops.unwrap_or(0);
    device.reservation_ops_left = of.free_reservation_ops;
    device.channels = of.channels;
    device
}

pub(crate) fn tenant(of: &Tenant) -> abi::Tenant {
    let mut tenant = abi::Tenant::empty();
    tenant.channels = of.channels;
    tenant.name = Text::new(&of.name);
    tenant.size_bytes = of.size_bytes;
    tenant.reservation_ops = of.reservation_ops;
    tenant
}

/// Channels with what they did.
#[derive(Debug)]
pub(crate) struct Samples {
    /// Pointed at by `rows`.
    _channels: Vec<ChannelSubject>,
    /// Pointed at by `list`.
    _rows: Box<[abi::ChannelTelemetry]>,
    list: Vec<*const abi::ChannelTelemetry>,
}

impl Samples {
    /// The texts are those of the samples, which must not change meanwhile.
    pub(crate) fn new(of: &[Sample]) -> Self {
        let channels: Vec<_> = of.iter().map(|sample| ChannelSubject::new(&sample.channel)).collect();
        let rows: Box<[_]> = of.iter().zip(&channels).map(|(sample, channel)| row(sample, channel)).collect();
        let list = rows.iter().map(|row| &raw const *row).collect();
        Self { _channels: channels, _rows: rows, list }
    }

    pub(crate) fn as_ptr(&self) -> *const *const abi::ChannelTelemetry {
        self.list.as_ptr()
    }

    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }
}

fn row(sample: &Sample, channel: &ChannelSubject) -> abi::ChannelTelemetry {
    let of = &sample.telemetry;
    let mut row = abi::ChannelTelemetry::empty();
    row.active = of.active.into();
    row.channel = channel.as_ptr();
    row.ops = of.read_ops.saturating_add(of.write_ops);
    (row.read_ops, row.write_ops) = (of.read_ops, of.write_ops);
    row.bytes = of.read_bytes.saturating_add(of.write_bytes);
    (row.read_bytes, row.write_bytes) = (of.read_bytes, of.write_bytes);
    row.latency_p50_ns = of.latency_p50_ns;
    row.latency_p99_ns = of.latency_p99_ns;
    row.latency_p999_ns = of.latency_p999_ns;
    row.throttle_ns = of.throttle_ns;
    row.reservation_shortfall_ops = of.reservation_shortfall_ops;
    row.queue_wait_ns = of.queue_wait_ns;
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_reads_the_same_on_the_other_side() {
        let mut of = Channel { name: "disk-a".to_owned(), queues: 2, read_only: true, ..Channel::default() };
        of.labels.insert("tier".to_owned(), "gold".to_owned());
        of.guarantees.ops = Some(RateLimit { per_second: 5, burst: None });
        let subject = ChannelSubject::new(&of);
        let channel = &*subject.channel;
        assert_eq!(
            (channel.queues, channel.read_only, channel.labels_count, channel.name.len_bytes),
            (2, 1, 1, 6)
        );
        assert_eq!(subject._labels[0].value.len_bytes, 4);
        assert_eq!(subject._guarantees.ops, abi::RateLimit { per_second: 5, burst: 0 });
    }
}
