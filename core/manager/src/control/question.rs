//! Tenants, devices, channels and guarantees as policies see them, and what policies made of guarantees.

use vfiomux_policy::{
    Channel as PolicyChannel, Device as PolicyDevice, Guarantees as PolicyGuarantees, Objective, RateLimit,
    Tenant,
};

use super::Control;
use super::channel::Channel;
use super::operations::QUEUES_MAX;

impl Control {
    /// A tenant as policies see it, with what it has, one channel left out.
    pub(crate) fn policy_tenant(&self, tenant: &str, but_for: Option<&str>) -> Tenant {
        let mut seen = Tenant { name: tenant.to_owned(), ..Tenant::default() };
        for Channel { setting, .. } in self.channels.values() {
            if setting.tenant == tenant && but_for != Some(setting.id.as_str()) {
                seen.channels += 1;
                seen.size_bytes = seen.size_bytes.saturating_add(setting.size_bytes);
                let reserved = setting.guarantees.reservation_ops.unwrap_or(0);
                seen.reservation_ops = seen.reservation_ops.saturating_add(reserved);
            }
        }
        seen
    }

    /// A device as policies see it, with what it has left.
    pub(crate) fn policy_device(&self, name: &str) -> PolicyDevice {
        let on_it = self.channels.values().filter(|channel| channel.device == name);
        let device = self.devices.get(name);
        let namespaces = device.into_iter().flat_map(|device| device.namespaces.values());
        let capacity_bytes = namespaces
            .filter_map(|seat| {
                let blocks = seat.carving.as_ref().ok()?.pool.total_blocks();
                Some(blocks.saturating_mul(u64::from(seat.limits.block_bytes)))
            })
            .sum();
        PolicyDevice {
            name: name.to_owned(),
            capacity_bytes,
            free_bytes: self.free_bytes(name),
            queues_max: QUEUES_MAX,
            calibrated_ops: device
                .and_then(|device| self.calibration_of(device))
                .map(|calibration| calibration.read_ops),
            free_reservation_ops: device.map_or(0, |device| self.reservations(device).free_ops()),
            channels: u32::try_from(on_it.count()).unwrap_or(u32::MAX),
        }
    }
}

/// A channel as policies see it.
pub(crate) fn policy_channel(channel: &Channel) -> PolicyChannel {
    PolicyChannel {
        id: channel.setting.id.clone(),
        name: channel.setting.name.clone(),
        tenant: channel.setting.tenant.clone(),
        device: channel.device.clone(),
        size_bytes: channel.setting.size_bytes,
        queues: channel.setting.queues,
        read_only: channel.setting.read_only,
        generation: channel.setting.generation,
        guarantees: policy_guarantees(&channel.setting.guarantees),
        labels: channel.setting.labels.0.clone(),
    }
}

/// Guarantees as policies see them.
pub(crate) fn policy_guarantees(guarantees: &vfiomux_rpc::Guarantees) -> PolicyGuarantees {
    let limit = |limit: Option<vfiomux_rpc::RateLimit>| {
        limit.map(|vfiomux_rpc::RateLimit { per_second, burst }| RateLimit { per_second, burst })
    };
    PolicyGuarantees {
        ops: limit(guarantees.ops),
        bytes: limit(guarantees.bytes),
        read_ops: limit(guarantees.read_ops),
        read_bytes: limit(guarantees.read_bytes),
        write_ops: limit(guarantees.write_ops),
        write_bytes: limit(guarantees.write_bytes),
        reservation_ops: guarantees.reservation_ops,
        share: guarantees.share,
        objective: guarantees
            .objective
            .map(|vfiomux_rpc::Objective { permille, latency_ns }| Objective { permille, latency_ns }),
    }
}

/// Guarantees as operators see them.
pub(crate) fn guarantees_of(guarantees: &PolicyGuarantees) -> vfiomux_rpc::Guarantees {
    let limit = |limit: Option<RateLimit>| {
        limit.map(|RateLimit { per_second, burst }| vfiomux_rpc::RateLimit { per_second, burst })
    };
    vfiomux_rpc::Guarantees {
        ops: limit(guarantees.ops),
        bytes: limit(guarantees.bytes),
        read_ops: limit(guarantees.read_ops),
        read_bytes: limit(guarantees.read_bytes),
        write_ops: limit(guarantees.write_ops),
        write_bytes: limit(guarantees.write_bytes),
        reservation_ops: guarantees.reservation_ops,
        share: guarantees.share,
        objective: guarantees
            .objective
            .map(|Objective { permille, latency_ns }| vfiomux_rpc::Objective { permille, latency_ns }),
    }
}
