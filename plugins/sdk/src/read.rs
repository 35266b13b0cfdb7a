#![expect(unsafe_code, reason = "reads what the plugin host points to")]
//! From the C structures to owned views. Texts that are not UTF-8 end where they stop being it; what is missing is empty.

use std::collections::BTreeMap;

use crate::abi::{self, Text, read_list, read_prefix};
use crate::{
    AttachRequest, Channel, ChannelTelemetry, ClaimRequest, CreateRequest, DestroyRequest, Device,
    DiscoverRequest, FaultRequest, Guarantees, InitRequest, MigrateRequest, Objective, PressureRequest,
    RateLimit, SessionRequest, Tenant, TickRequest, TuneRequest,
};

/// An owned view of a C structure.
pub(crate) trait View: Sized {
    /// The structure.
    type Raw: abi::Extensible;

    /// Copies everything that the structure says and points to.
    ///
    /// # Safety
    /// What `raw` points to, and what that points to in turn, can be read during the call.
    unsafe fn view(raw: &Self::Raw) -> Self;

    /// # Safety
    /// Unless it is null, `pointer` is to a structure for which [`View::view`]'s condition holds.
    unsafe fn read(pointer: *const Self::Raw) -> Option<Self> {
        // SAFETY: passed on from this function's own condition.
        unsafe { read_prefix(pointer).map(|raw| Self::view(&raw)) }
    }

    /// The structures behind a list of pointers.
    ///
    /// # Safety
    /// Unless it is null, `list` is of `count` pointers, for each of which [`View::read`]'s condition holds.
    unsafe fn read_all(list: *const *const Self::Raw, count: usize) -> Vec<Self> {
        // SAFETY: passed on from this function's own condition.
        unsafe { read_list(list, count).map(|raw| Self::view(&raw)).collect() }
    }
}

/// # Safety
/// The text can be read during the call.
unsafe fn owned(text: Text) -> String {
    // SAFETY: passed on from this function's own condition.
    unsafe { text.as_str() }.to_owned()
}

/// # Safety
/// Unless it is null, `labels` is of `count` labels whose texts can be read during the call.
unsafe fn labels(labels: *const abi::Label, count: u32) -> BTreeMap<String, String> {
    let count = if labels.is_null() { 0 } else { count as usize };
    // SAFETY: `index` stays below the count for which the caller vouches.
    let label = |index| unsafe {
        let label = labels.add(index).read();
        (owned(label.key), owned(label.value))
    };
    (0..count).map(label).collect()
}

const fn rate_limit(raw: abi::RateLimit) -> Option<RateLimit> {
    let burst = if raw.burst == 0 { None } else { Some(raw.burst) };
    if raw.per_second == 0 { None } else { Some(RateLimit { per_second: raw.per_second, burst }) }
}

impl View for Guarantees {
    type Raw = abi::Guarantees;

    unsafe fn view(raw: &abi::Guarantees) -> Self {
        let objective = Objective { permille: raw.objective_permille, latency_ns: raw.objective_latency_ns };
        Self {
            ops: rate_limit(raw.ops),
            bytes: rate_limit(raw.bytes),
            read_ops: rate_limit(raw.read_ops),
            read_bytes: rate_limit(raw.read_bytes),
            write_ops: rate_limit(raw.write_ops),
            write_bytes: rate_limit(raw.write_bytes),
            reservation_ops: raw.reservation_ops,
            share: (raw.share > 0).then_some(raw.share),
            objective: (objective.latency_ns > 0).then_some(objective),
        }
    }
}

impl View for Channel {
    type Raw = abi::Channel;

    unsafe fn view(raw: &abi::Channel) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        unsafe {
            Self {
                id: owned(raw.id),
                name: owned(raw.name),
                tenant: owned(raw.tenant),
                device: owned(raw.device),
                size_bytes: raw.size_bytes,
                queues: raw.queues,
                read_only: raw.read_only != 0,
                generation: raw.generation,
                labels: labels(raw.labels, raw.labels_count),
                guarantees: Guarantees::read(raw.guarantees).unwrap_or_default(),
            }
        }
    }
}

impl View for Device {
    type Raw = abi::Device;

    unsafe fn view(raw: &abi::Device) -> Self {
        Self {
            // SAFETY: the caller vouches for all that the structure points to.
            name: unsafe { owned(raw.name) },
            queues_max: raw.queues_max,
            capacity_bytes: raw.capacity_bytes,
            free_bytes: raw.free_bytes,
            calibrated_ops: raw.calibrated_ops,
            reservation_ops_left: raw.reservation_ops_left,
            channels: raw.channels,
        }
    }
}

impl View for Tenant {
    type Raw = abi::Tenant;

    unsafe fn view(raw: &abi::Tenant) -> Self {
        Self {
            // SAFETY: the caller vouches for all that the structure points to.
            name: unsafe { owned(raw.name) },
            channels: raw.channels,
            size_bytes: raw.size_bytes,
            reservation_ops: raw.reservation_ops,
        }
    }
}

impl View for ChannelTelemetry {
    type Raw = abi::ChannelTelemetry;

    unsafe fn view(raw: &abi::ChannelTelemetry) -> Self {
        Self {
            // SAFETY: the caller vouches for all that the structure points to.
            channel: unsafe { Channel::read(raw.channel) }.unwrap_or_default(),
            active: raw.active != 0,
            ops: raw.ops,
            read_ops: raw.read_ops,
            write_ops: raw.write_ops,
            bytes: raw.bytes,
            read_bytes: raw.read_bytes,
            write_bytes: raw.write_bytes,
            latency_p50_ns: raw.latency_p50_ns,
            latency_p99_ns: raw.latency_p99_ns,
            latency_p999_ns: raw.latency_p999_ns,
            throttle_ns: raw.throttle_ns,
            reservation_shortfall_ops: raw.reservation_shortfall_ops,
            queue_wait_ns: raw.queue_wait_ns,
        }
    }
}

impl View for InitRequest {
    type Raw = abi::InitRequest;

    unsafe fn view(raw: &abi::InitRequest) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        unsafe { Self { name: owned(raw.name), configuration: owned(raw.configuration) } }
    }
}

impl View for DiscoverRequest {
    type Raw = abi::DiscoverRequest;

    unsafe fn view(raw: &abi::DiscoverRequest) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        let (device, driver) = unsafe { (owned(raw.device), owned(raw.driver)) };
        let (vendor_id, device_id, class_code) = (raw.vendor_id, raw.device_id, raw.class_code);
        Self { device, driver, vendor_id, device_id, class_code }
    }
}

impl View for ClaimRequest {
    type Raw = abi::ClaimRequest;

    unsafe fn view(raw: &abi::ClaimRequest) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        let device = unsafe { owned(raw.device) };
        Self {
            device,
            unprotected: raw.unprotected != 0,
            caller_uid: raw.caller_uid,
            dry_run: raw.dry_run != 0,
        }
    }
}

impl View for CreateRequest {
    type Raw = abi::CreateRequest;

    unsafe fn view(raw: &abi::CreateRequest) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        unsafe {
            Self {
                channel: Channel::read(raw.channel).unwrap_or_default(),
                device: Device::read(raw.device).unwrap_or_default(),
                tenant: Tenant::read(raw.tenant).unwrap_or_default(),
                caller_uid: raw.caller_uid,
                dry_run: raw.dry_run != 0,
            }
        }
    }
}

impl View for AttachRequest {
    type Raw = abi::AttachRequest;

    unsafe fn view(raw: &abi::AttachRequest) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        unsafe {
            Self {
                channel: Channel::read(raw.channel).unwrap_or_default(),
                endpoint: owned(raw.endpoint),
                client: raw.client != 0,
                caller_uid: raw.caller_uid,
                dry_run: raw.dry_run != 0,
            }
        }
    }
}

impl View for SessionRequest {
    type Raw = abi::SessionRequest;

    unsafe fn view(raw: &abi::SessionRequest) -> Self {
        Self {
            // SAFETY: the caller vouches for all that the structure points to.
            channel: unsafe { Channel::read(raw.channel) }.unwrap_or_default(),
            features_offered: raw.features_offered,
            features_taken: raw.features_taken,
            memory_bytes: raw.memory_bytes,
            memory_regions: raw.memory_regions,
            peer_pid: raw.peer_pid,
            peer_uid: raw.peer_uid,
        }
    }
}

impl View for TuneRequest {
    type Raw = abi::TuneRequest;

    unsafe fn view(raw: &abi::TuneRequest) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        unsafe {
            Self {
                channel: Channel::read(raw.channel).unwrap_or_default(),
                wanted: Channel::read(raw.wanted).unwrap_or_default(),
                device: Device::read(raw.device).unwrap_or_default(),
                tenant: Tenant::read(raw.tenant).unwrap_or_default(),
                caller_uid: raw.caller_uid,
                dry_run: raw.dry_run != 0,
            }
        }
    }
}

impl View for TickRequest {
    type Raw = abi::TickRequest;

    unsafe fn view(raw: &abi::TickRequest) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        let channels = unsafe { ChannelTelemetry::read_all(raw.channels, raw.channels_count) };
        Self { unix_seconds: raw.unix_seconds, period_ns: raw.period_ns, channels }
    }
}

impl View for PressureRequest {
    type Raw = abi::PressureRequest;

    unsafe fn view(raw: &abi::PressureRequest) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        unsafe {
            Self {
                kind: raw.kind,
                subject: owned(raw.subject),
                level_permille: raw.level_permille,
                channels: ChannelTelemetry::read_all(raw.channels, raw.channels_count),
            }
        }
    }
}

impl View for FaultRequest {
    type Raw = abi::FaultRequest;

    unsafe fn view(raw: &abi::FaultRequest) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        unsafe {
            Self {
                kind: raw.kind,
                device: owned(raw.device),
                description: owned(raw.description),
                channel: Channel::read(raw.channel),
            }
        }
    }
}

impl View for MigrateRequest {
    type Raw = abi::MigrateRequest;

    unsafe fn view(raw: &abi::MigrateRequest) -> Self {
        // SAFETY: the caller vouches for all that the structure points to.
        unsafe {
            Self {
                channel: Channel::read(raw.channel).unwrap_or_default(),
                target: Device::read(raw.target),
                target_host: owned(raw.target_host),
                tenant: Tenant::read(raw.tenant).unwrap_or_default(),
                caller_uid: raw.caller_uid,
                dry_run: raw.dry_run != 0,
            }
        }
    }
}

impl View for DestroyRequest {
    type Raw = abi::DestroyRequest;

    unsafe fn view(raw: &abi::DestroyRequest) -> Self {
        Self {
            // SAFETY: the caller vouches for all that the structure points to.
            channel: unsafe { Channel::read(raw.channel) }.unwrap_or_default(),
            force: raw.force != 0,
            caller_uid: raw.caller_uid,
            dry_run: raw.dry_run != 0,
        }
    }
}
