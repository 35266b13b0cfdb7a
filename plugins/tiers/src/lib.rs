//! `tiers`: gold, silver and bronze, or whatever they are called; what goes with each, and who may have which.
//!
//! ```toml
//! default = ["bronze"]               # for tenants that are not named
//!
//! [tiers.gold]
//! reservation_ops = 20000
//! share = 400
//! objective = { latency_ns = 500000 }
//!
//! [tiers.silver]
//! reservation_ops = 5000
//! share = 200
//!
//! [tiers.bronze]
//! ops = { per_second = 2000, burst = 4000 }
//!
//! [tenants]
//! acme = ["silver", "gold"]          # silver, unless a channel's label says tier=gold
//! ```
//!
//! A channel's label `tier` chooses among those that its tenant may have; without it, the channel gets the first. A tier that the
//! tenant may not have is denied, and so is a tenant that may have none (there is no `default`).
//!
//! What a tier names is what the channel gets, whatever was asked for: creating and tuning are amended, and a tick brings channels in
//! line that were made under another configuration, so that replacing the plugin with a new file is enough. What a tier does
//! not name is free: leave `share` out where `slo-guard` is to set it. A limit, reservation or share of 0 takes it away.

use std::collections::BTreeMap;

use serde::Deserialize;
use vfiomux_plugin::{
    Channel, CreateRequest, Host, InitRequest, MigrateRequest, Policy, Retunes, Terms, TickRequest,
    TuneRequest, Verdict, export_policy,
};

/// The label that chooses.
const LABEL: &str = "tier";

/// The policy, as configured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiers {
    tiers: BTreeMap<String, Terms>,
    #[serde(default)]
    tenants: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    default: Vec<String>,
}

impl Tiers {
    /// The first thing that makes no sense, if there is one.
    fn complaint(&self) -> Option<String> {
        let unsound = self
            .tiers
            .iter()
            .find_map(|(name, terms)| terms.complaint().map(|complaint| format!("tier {name}: {complaint}")));
        let mut chosen = self.tenants.values().flatten().chain(&self.default);
        unsound.or_else(|| {
            chosen.find(|name| !self.tiers.contains_key(*name)).map(|name| format!("there is no tier {name}"))
        })
    }

    /// The terms of a channel.
    fn terms(&self, channel: &Channel) -> Result<&Terms, String> {
        let Channel { tenant, .. } = channel;
        let allowed = self.tenants.get(tenant).unwrap_or(&self.default);
        let first = allowed.first().ok_or_else(|| format!("tenant {tenant} may have no tier"))?;
        let wanted = channel.label(LABEL).unwrap_or(first);
        if !allowed.iter().any(|name| name == wanted) {
            let allowed = allowed.join(" or ");
            return Err(format!("tenant {tenant} may not have tier {wanted}, but {allowed}"));
        }
        self.tiers.get(wanted).ok_or_else(|| format!("there is no tier {wanted}"))
    }

    fn verdict(&self, channel: &Channel) -> Verdict {
        match self.terms(channel) {
            Ok(terms) => terms.amendments(&channel.guarantees).into(),
            Err(reason) => Verdict::Deny(reason),
        }
    }
}

impl Policy for Tiers {
    fn init(request: &InitRequest, host: &Host) -> Result<Self, String> {
        let policy: Self = toml::from_str(&request.configuration).map_err(|error| error.to_string())?;
        if let Some(complaint) = policy.complaint() {
            return Err(complaint);
        }
        let names: Vec<&str> = policy.tiers.keys().map(String::as_str).collect();
        host.info(format!("tiers: {}", names.join(", ")));
        Ok(policy)
    }

    fn create(&mut self, request: &CreateRequest) -> Verdict {
        self.verdict(&request.channel)
    }

    fn tune(&mut self, request: &TuneRequest) -> Verdict {
        self.verdict(&request.wanted)
    }

    fn migrate(&mut self, request: &MigrateRequest) -> Verdict {
        self.verdict(&request.channel)
    }

    /// A channel that may have no tier keeps what it has: it was there before.
    fn tick(&mut self, request: &TickRequest, retunes: &mut Retunes) {
        for telemetry in &request.channels {
            let channel = &telemetry.channel;
            if let Ok(terms) = self.terms(channel) {
                retunes.set(channel, terms.amendments(&channel.guarantees));
            }
        }
    }
}

export_policy!(Tiers);

#[cfg(test)]
mod tests;
