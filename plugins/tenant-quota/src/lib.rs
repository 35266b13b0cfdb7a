//! `tenant-quota`: how much each tenant may have, on all devices together.
//!
//! The configuration is TOML. What is left out of a quota is not limited; a tenant that has none of its own gets `[default]`,
//! and without a `[default]` it may have nothing.
//!
//! ```toml
//! [default]
//! channels = 2
//! capacity = "64GiB"
//! reservation_ops = 0        # promises are for who has a quota of its own
//!
//! [tenants.acme]
//! channels = 16
//! capacity = "2TiB"
//! reservation_ops = 100000
//!
//! [tenants.house]            # whatever it likes
//! ```
//!
//! Creating, tuning (growing, reserving more) and migrating are held against the quota. What makes a tenant's part smaller is
//! always allowed, also above a quota that has shrunk. Nothing is kept between questions: each carries what the tenant has.

use std::collections::BTreeMap;

use serde::Deserialize;
use vfiomux_plugin::{
    Channel, CreateRequest, Host, InitRequest, MigrateRequest, Policy, Tenant, TuneRequest, Verdict,
    export_policy,
};

mod capacity;

use capacity::Capacity;

/// The policy, as configured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantQuota {
    default: Option<Quota>,
    #[serde(default)]
    tenants: BTreeMap<String, Quota>,
}

/// What one tenant may have. `None` is not limited.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quota {
    channels: Option<u32>,
    capacity: Option<Capacity>,
    reservation_ops: Option<u64>,
}

/// What a tenant would have.
struct Outcome {
    channels: u32,
    size_bytes: u64,
    reservation_ops: u64,
}

impl Outcome {
    fn with(tenant: &Tenant, channel: &Channel) -> Self {
        Self {
            channels: tenant.channels.saturating_add(1),
            size_bytes: tenant.size_bytes.saturating_add(channel.size_bytes),
            reservation_ops: tenant.reservation_ops.saturating_add(channel.guarantees.reservation_ops),
        }
    }
}

impl TenantQuota {
    fn quota(&self, tenant: &str) -> Option<Quota> {
        self.tenants.get(tenant).copied().or(self.default)
    }

    /// Why the tenant may not come to have this, if it may not. What was already so is nobody's fault.
    fn complaint(&self, tenant: &str, before: &Outcome, after: &Outcome) -> Option<String> {
        let Some(quota) = self.quota(tenant) else {
            return Some(format!("tenant {tenant} has no quota, and there is none for others"));
        };
        if let Some(most) = quota.channels
            && after.channels > before.channels.max(most)
        {
            return Some(format!("tenant {tenant} may have {most} channels and has them"));
        }
        if let Some(Capacity { bytes: most }) = quota.capacity
            && after.size_bytes > before.size_bytes.max(most)
        {
            let left = most.saturating_sub(before.size_bytes);
            return Some(format!("tenant {tenant} may have {most} bytes and has {left} of them left"));
        }
        if let Some(most) = quota.reservation_ops
            && after.reservation_ops > before.reservation_ops.max(most)
        {
            let left = most.saturating_sub(before.reservation_ops);
            return Some(format!(
                "tenant {tenant} may reserve {most} operations a second and has {left} of them left"
            ));
        }
        None
    }
}

fn verdict(complaint: Option<String>) -> Verdict {
    complaint.map_or(Verdict::Allow, Verdict::Deny)
}

impl Policy for TenantQuota {
    fn init(request: &InitRequest, host: &Host) -> Result<Self, String> {
        let policy: Self = toml::from_str(&request.configuration).map_err(|error| error.to_string())?;
        let others = if policy.default.is_some() { "a quota" } else { "nothing" };
        host.info(format!(
            "{} tenants have a quota of their own, others have {others}",
            policy.tenants.len()
        ));
        Ok(policy)
    }

    fn create(&mut self, request: &CreateRequest) -> Verdict {
        let tenant = &request.tenant;
        let before = Outcome {
            channels: tenant.channels,
            size_bytes: tenant.size_bytes,
            reservation_ops: tenant.reservation_ops,
        };
        let after = Outcome::with(tenant, &request.channel);
        verdict(self.complaint(&request.channel.tenant, &before, &after))
    }

    fn tune(&mut self, request: &TuneRequest) -> Verdict {
        let before = Outcome::with(&request.tenant, &request.channel);
        let after = Outcome::with(&request.tenant, &request.wanted);
        verdict(self.complaint(&request.channel.tenant, &before, &after))
    }

    /// The channel is the same over there, so it is what the tenant has already: only a tenant without a quota is held back.
    fn migrate(&mut self, request: &MigrateRequest) -> Verdict {
        let (before, after) = (
            Outcome::with(&request.tenant, &request.channel),
            Outcome::with(&request.tenant, &request.channel),
        );
        verdict(self.complaint(&request.channel.tenant, &before, &after))
    }
}

export_policy!(TenantQuota);

#[cfg(test)]
mod tests;
