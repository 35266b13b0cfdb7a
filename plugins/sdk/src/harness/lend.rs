//! From owned views to the C structures, for as long as a hook takes.

use std::ptr;

use crate::abi::{self, Extensible, Text};
use crate::{
    AttachRequest, Channel, ChannelTelemetry, ClaimRequest, CreateRequest, DestroyRequest, Device,
    DiscoverRequest, FaultRequest, Guarantees, InitRequest, MigrateRequest, PressureRequest, RateLimit,
    SessionRequest, Tenant, TickRequest, TuneRequest,
};

/// What can be shown to a policy as a C structure.
pub(super) trait Lend {
    type Raw: Extensible;

    /// Runs `then` with a pointer to the structure, which is good meanwhile, as is all that it points to.
    fn lend<R>(&self, then: impl FnOnce(*const Self::Raw) -> R) -> R;
}

fn raw_limit(limit: Option<RateLimit>) -> abi::RateLimit {
    limit.map_or(abi::RateLimit { per_second: 0, burst: 0 }, |limit| abi::RateLimit {
        per_second: limit.per_second,
        burst: limit.burst.unwrap_or(0),
    })
}

fn raw_guarantees(guarantees: &Guarantees) -> abi::Guarantees {
    abi::Guarantees {
        share: guarantees.share.unwrap_or(0),
        ops: raw_limit(guarantees.ops),
        bytes: raw_limit(guarantees.bytes),
        read_ops: raw_limit(guarantees.read_ops),
        read_bytes: raw_limit(guarantees.read_bytes),
        write_ops: raw_limit(guarantees.write_ops),
        write_bytes: raw_limit(guarantees.write_bytes),
        reservation_ops: guarantees.reservation_ops,
        objective_latency_ns: guarantees.objective.map_or(0, |objective| objective.latency_ns),
        objective_permille: guarantees.objective.map_or(0, |objective| objective.permille),
        ..abi::Guarantees::empty()
    }
}

fn raw_labels(channel: &Channel) -> Vec<abi::Label> {
    let label =
        |(key, value): (&String, &String)| abi::Label { key: Text::new(key), value: Text::new(value) };
    channel.labels.iter().map(label).collect()
}

fn raw_channel(channel: &Channel, labels: &[abi::Label], guarantees: &abi::Guarantees) -> abi::Channel {
    abi::Channel {
        queues: channel.queues,
        id: Text::new(&channel.id),
        name: Text::new(&channel.name),
        tenant: Text::new(&channel.tenant),
        device: Text::new(&channel.device),
        size_bytes: channel.size_bytes,
        generation: channel.generation,
        read_only: u32::from(channel.read_only),
        labels_count: u32::try_from(labels.len()).unwrap_or(u32::MAX),
        labels: labels.as_ptr(),
        guarantees: ptr::from_ref(guarantees),
        ..abi::Channel::empty()
    }
}

impl Lend for Channel {
    type Raw = abi::Channel;

    fn lend<R>(&self, then: impl FnOnce(*const abi::Channel) -> R) -> R {
        let (labels, guarantees) = (raw_labels(self), raw_guarantees(&self.guarantees));
        let raw = raw_channel(self, &labels, &guarantees);
        then(&raw const raw)
    }
}

impl Lend for Device {
    type Raw = abi::Device;

    fn lend<R>(&self, then: impl FnOnce(*const abi::Device) -> R) -> R {
        let raw = abi::Device {
            queues_max: self.queues_max,
            name: Text::new(&self.name),
            capacity_bytes: self.capacity_bytes,
            free_bytes: self.free_bytes,
            calibrated_ops: self.calibrated_ops,
            reservation_ops_left: self.reservation_ops_left,
            channels: self.channels,
            ..abi::Device::empty()
        };
        then(&raw const raw)
    }
}

impl Lend for Tenant {
    type Raw = abi::Tenant;

    fn lend<R>(&self, then: impl FnOnce(*const abi::Tenant) -> R) -> R {
        let raw = abi::Tenant {
            channels: self.channels,
            name: Text::new(&self.name),
            size_bytes: self.size_bytes,
            reservation_ops: self.reservation_ops,
            ..abi::Tenant::empty()
        };
        then(&raw const raw)
    }
}

fn raw_telemetry(telemetry: &ChannelTelemetry, channel: &abi::Channel) -> abi::ChannelTelemetry {
    abi::ChannelTelemetry {
        active: u32::from(telemetry.active),
        channel: ptr::from_ref(channel),
        ops: telemetry.ops,
        read_ops: telemetry.read_ops,
        write_ops: telemetry.write_ops,
        bytes: telemetry.bytes,
        read_bytes: telemetry.read_bytes,
        write_bytes: telemetry.write_bytes,
        latency_p50_ns: telemetry.latency_p50_ns,
        latency_p99_ns: telemetry.latency_p99_ns,
        latency_p999_ns: telemetry.latency_p999_ns,
        throttle_ns: telemetry.throttle_ns,
        reservation_shortfall_ops: telemetry.reservation_shortfall_ops,
        queue_wait_ns: telemetry.queue_wait_ns,
        ..abi::ChannelTelemetry::empty()
    }
}

/// A list of pointers to structures: each level is whole before the next points into it.
fn lend_telemetry<R>(
    list: &[ChannelTelemetry],
    then: impl FnOnce(&[*const abi::ChannelTelemetry]) -> R,
) -> R {
    let labels: Vec<_> = list.iter().map(|telemetry| raw_labels(&telemetry.channel)).collect();
    let guarantees: Vec<_> =
        list.iter().map(|telemetry| raw_guarantees(&telemetry.channel.guarantees)).collect();
    let channels: Vec<_> = list
        .iter()
        .zip(labels.iter().zip(&guarantees))
        .map(|(telemetry, (labels, guarantees))| raw_channel(&telemetry.channel, labels, guarantees))
        .collect();
    let raw: Vec<_> =
        list.iter().zip(&channels).map(|(telemetry, channel)| raw_telemetry(telemetry, channel)).collect();
    let pointers: Vec<_> = raw.iter().map(ptr::from_ref).collect();
    then(&pointers)
}

impl Lend for InitRequest {
    type Raw = abi::InitRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::InitRequest) -> R) -> R {
        let (name, configuration) = (Text::new(&self.name), Text::new(&self.configuration));
        let raw = abi::InitRequest { name, configuration, ..abi::InitRequest::empty() };
        then(&raw const raw)
    }
}

impl Lend for DiscoverRequest {
    type Raw = abi::DiscoverRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::DiscoverRequest) -> R) -> R {
        let raw = abi::DiscoverRequest {
            vendor_id: self.vendor_id,
            device_id: self.device_id,
            class_code: self.class_code,
            device: Text::new(&self.device),
            driver: Text::new(&self.driver),
            ..abi::DiscoverRequest::empty()
        };
        then(&raw const raw)
    }
}

impl Lend for ClaimRequest {
    type Raw = abi::ClaimRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::ClaimRequest) -> R) -> R {
        let raw = abi::ClaimRequest {
            caller_uid: self.caller_uid,
            dry_run: u32::from(self.dry_run),
            unprotected: u32::from(self.unprotected),
            device: Text::new(&self.device),
            ..abi::ClaimRequest::empty()
        };
        then(&raw const raw)
    }
}

impl Lend for CreateRequest {
    type Raw = abi::CreateRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::CreateRequest) -> R) -> R {
        let with = |channel, device, tenant| {
            let raw = abi::CreateRequest {
                caller_uid: self.caller_uid,
                dry_run: u32::from(self.dry_run),
                channel,
                device,
                tenant,
                ..abi::CreateRequest::empty()
            };
            then(&raw const raw)
        };
        self.channel.lend(|channel| {
            self.device.lend(|device| self.tenant.lend(|tenant| with(channel, device, tenant)))
        })
    }
}

impl Lend for AttachRequest {
    type Raw = abi::AttachRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::AttachRequest) -> R) -> R {
        self.channel.lend(|channel| {
            let raw = abi::AttachRequest {
                caller_uid: self.caller_uid,
                dry_run: u32::from(self.dry_run),
                client: u32::from(self.client),
                channel,
                endpoint: Text::new(&self.endpoint),
                ..abi::AttachRequest::empty()
            };
            then(&raw const raw)
        })
    }
}

impl Lend for SessionRequest {
    type Raw = abi::SessionRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::SessionRequest) -> R) -> R {
        self.channel.lend(|channel| {
            let raw = abi::SessionRequest {
                memory_regions: self.memory_regions,
                channel,
                features_offered: self.features_offered,
                features_taken: self.features_taken,
                memory_bytes: self.memory_bytes,
                peer_pid: self.peer_pid,
                peer_uid: self.peer_uid,
                ..abi::SessionRequest::empty()
            };
            then(&raw const raw)
        })
    }
}

impl Lend for TuneRequest {
    type Raw = abi::TuneRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::TuneRequest) -> R) -> R {
        let with = |channel, wanted, device, tenant| {
            let raw = abi::TuneRequest {
                caller_uid: self.caller_uid,
                dry_run: u32::from(self.dry_run),
                channel,
                wanted,
                device,
                tenant,
                ..abi::TuneRequest::empty()
            };
            then(&raw const raw)
        };
        self.channel.lend(|channel| {
            self.wanted.lend(|wanted| {
                self.device.lend(|device| self.tenant.lend(|tenant| with(channel, wanted, device, tenant)))
            })
        })
    }
}

impl Lend for TickRequest {
    type Raw = abi::TickRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::TickRequest) -> R) -> R {
        lend_telemetry(&self.channels, |channels| {
            let raw = abi::TickRequest {
                unix_seconds: self.unix_seconds,
                period_ns: self.period_ns,
                channels: channels.as_ptr(),
                channels_count: channels.len(),
                ..abi::TickRequest::empty()
            };
            then(&raw const raw)
        })
    }
}

impl Lend for PressureRequest {
    type Raw = abi::PressureRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::PressureRequest) -> R) -> R {
        lend_telemetry(&self.channels, |channels| {
            let raw = abi::PressureRequest {
                kind: self.kind,
                level_permille: self.level_permille,
                subject: Text::new(&self.subject),
                channels: channels.as_ptr(),
                channels_count: channels.len(),
                ..abi::PressureRequest::empty()
            };
            then(&raw const raw)
        })
    }
}

impl Lend for FaultRequest {
    type Raw = abi::FaultRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::FaultRequest) -> R) -> R {
        let with = |channel| {
            let raw = abi::FaultRequest {
                kind: self.kind,
                device: Text::new(&self.device),
                description: Text::new(&self.description),
                channel,
                ..abi::FaultRequest::empty()
            };
            then(&raw const raw)
        };
        match &self.channel {
            Some(channel) => channel.lend(with),
            None => with(ptr::null()),
        }
    }
}

impl Lend for MigrateRequest {
    type Raw = abi::MigrateRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::MigrateRequest) -> R) -> R {
        let with = |channel, tenant, target| {
            let raw = abi::MigrateRequest {
                caller_uid: self.caller_uid,
                dry_run: u32::from(self.dry_run),
                channel,
                target,
                target_host: Text::new(&self.target_host),
                tenant,
                ..abi::MigrateRequest::empty()
            };
            then(&raw const raw)
        };
        self.channel.lend(|channel| {
            self.tenant.lend(|tenant| match &self.target {
                Some(target) => target.lend(|target| with(channel, tenant, target)),
                None => with(channel, tenant, ptr::null()),
            })
        })
    }
}

impl Lend for DestroyRequest {
    type Raw = abi::DestroyRequest;

    fn lend<R>(&self, then: impl FnOnce(*const abi::DestroyRequest) -> R) -> R {
        self.channel.lend(|channel| {
            let raw = abi::DestroyRequest {
                caller_uid: self.caller_uid,
                dry_run: u32::from(self.dry_run),
                force: u32::from(self.force),
                channel,
                ..abi::DestroyRequest::empty()
            };
            then(&raw const raw)
        })
    }
}
