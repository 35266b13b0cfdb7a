//! What of all this a caller is shown: the whole host, or some tenants' objects and nothing that names another's (C5).
//!
//! A view is made once, when a caller connects. It is asked in three places, and each of them alone would be enough for most
//! requests: before a method is carried out, whether the object that it names may be known to the caller; where lists are made, so
//! that counts are right; and once more over every answer and event that leaves, so that a method that forgets tells nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{DeviceInfo, ErrorCode, Event, Outcome, Role, RpcError, SidecoreInfo};

/// What a caller is shown, and may touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct View {
    host: Role,
    tenants: Arc<BTreeMap<String, Role>>,
}

impl View {
    /// Everything, with this role.
    #[must_use]
    pub fn of_host(role: Role) -> Self {
        Self { host: role, tenants: Arc::default() }
    }

    /// Nothing but these tenants' objects, each with a role.
    #[must_use]
    pub fn of_tenants(tenants: BTreeMap<String, Role>) -> Self {
        Self { host: Role::None, tenants: Arc::new(tenants) }
    }

    pub(crate) fn new(host: Role, tenants: BTreeMap<String, Role>) -> Self {
        Self { host, tenants: Arc::new(tenants) }
    }

    /// What the caller may do with this tenant's objects.
    #[must_use]
    pub fn role_for(&self, tenant: &str) -> Role {
        self.tenants.get(tenant).map_or(self.host, |&role| role.max(self.host))
    }

    /// What the caller may do with what is no tenant's: devices, sidecores, the daemon.
    #[must_use]
    pub const fn host_role(&self) -> Role {
        self.host
    }

    /// The most that the caller may do with anything.
    #[must_use]
    pub fn highest_role(&self) -> Role {
        self.tenants.values().fold(self.host, |highest, &role| highest.max(role))
    }

    /// Whether the caller may know of this tenant's objects.
    #[must_use]
    pub fn shows(&self, tenant: &str) -> bool {
        self.role_for(tenant) >= Role::Read
    }

    /// Whether the caller may know of everything.
    #[must_use]
    pub fn shows_host(&self) -> bool {
        self.host >= Role::Read
    }

    /// The tenants that the caller is confined to; those of everybody when it is not.
    pub fn tenants(&self) -> impl Iterator<Item = (&str, Role)> {
        self.tenants.iter().map(|(tenant, &role)| (tenant.as_str(), role))
    }

    /// Whether the caller may know of an object of this tenant, or of the host's when there is none.
    #[must_use]
    pub fn shows_owned(&self, tenant: Option<&str>) -> bool {
        tenant.map_or(self.shows_host(), |tenant| self.shows(tenant))
    }

    /// The same caller with only what concerns this tenant, and never more than it had.
    #[must_use]
    pub fn confined_to(&self, tenant: &str) -> Self {
        let role = self.role_for(tenant).min(Role::Operate);
        Self::of_tenants(BTreeMap::from([(tenant.to_owned(), role)]))
    }

    /// Whether an event may be told to the caller: to a confined one, only what happens to its tenants' objects. Numbers of
    /// other events are then missing from what it is told, and are no gap.
    #[must_use]
    pub fn shows_event(&self, event: &Event) -> bool {
        self.shows_owned(event.tenant.as_deref())
    }

    /// An answer as this caller may have it.
    pub(crate) fn confine(&self, outcome: Outcome) -> Result<Outcome, RpcError> {
        if self.shows_host() {
            return Ok(outcome);
        }
        let hidden = || {
            RpcError::new(ErrorCode::Permission, "the answer is about another tenant's object, or the host's")
        };
        let mut outcome = outcome;
        match &mut outcome {
            Outcome::Channels(list) => list.retain(|channel| self.shows(&channel.tenant)),
            Outcome::Channel(channel) if !self.shows(&channel.tenant) => return Err(hidden()),
            Outcome::Devices(list) => list.iter_mut().for_each(|device| self.confine_device(device)),
            Outcome::Device(device) => self.confine_device(device),
            Outcome::Tenants(list) => list.retain(|tenant| self.shows(&tenant.name)),
            Outcome::Tenant(tenant) if !self.shows(&tenant.name) => return Err(hidden()),
            Outcome::Sidecores(list) => list.iter_mut().for_each(|sidecore| self.confine_sidecore(sidecore)),
            Outcome::Sidecore(sidecore) => self.confine_sidecore(sidecore),
            Outcome::Jobs(list) => list.retain(|job| self.shows_owned(job.tenant.as_deref())),
            Outcome::Job(job) if !self.shows_owned(job.tenant.as_deref()) => return Err(hidden()),
            Outcome::Plugins(_)
            | Outcome::Plugin(_)
            | Outcome::PluginReplacement(_)
            | Outcome::PluginRecording(_) => return Err(hidden()),
            Outcome::Events(list) => list.events.retain(|event| self.shows_event(event)),
            Outcome::Audit(list) => {
                list.entries.retain(|entry| self.shows_owned(entry.tenant.as_deref()));
                for entry in &mut list.entries {
                    entry.confined_to.retain(|tenant| self.shows(tenant));
                }
            }
            // Made for one caller: what they count and name is chosen by its view.
            Outcome::Status(_)
            | Outcome::Channel(_)
            | Outcome::Job(_)
            | Outcome::Path(_)
            | Outcome::Explanation(_)
            | Outcome::Tenant(_)
            | Outcome::Subscription(_)
            | Outcome::Caller(_) => {}
        }
        Ok(outcome)
    }

    fn confine_sidecore(&self, sidecore: &mut SidecoreInfo) {
        sidecore.serves.retain(|channel| self.shows(&channel.tenant));
        sidecore.channels = u32::try_from(sidecore.serves.len()).unwrap_or(u32::MAX);
        sidecore.cpu = None;
    }

    /// Leaves of a device what a tenant needs to ask for a channel: its name, what it can do and what is free.
    fn confine_device(&self, device: &mut DeviceInfo) {
        device.address = None;
        device.reason = None;
        device.pci_id = None;
        device.model = None;
        device.serial = None;
        device.firmware = None;
        device.driver = None;
        device.iommu_group = None;
        device.group_members.clear();
        device.numa_node = None;
        device.holders.clear();
        device.channels.clear();
        device.namespaces.iter_mut().for_each(|namespace| namespace.reason = None);
        // How much is left is what it may ask for; who has the rest is not.
        device.reservations.holders.retain(|holder| self.shows(&holder.tenant));
        device.reservations.reason = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View::of_tenants(BTreeMap::from([("acme".into(), Role::Operate), ("beta".into(), Role::Read)]))
    }

    #[test]
    fn a_confined_caller_has_a_role_for_its_own_tenants_alone() {
        let view = view();
        assert_eq!((view.role_for("acme"), view.role_for("beta")), (Role::Operate, Role::Read));
        assert_eq!((view.role_for("gamma"), view.host_role()), (Role::None, Role::None));
        assert_eq!(view.highest_role(), Role::Operate);
        assert!(view.shows("beta") && !view.shows("gamma") && !view.shows_host());
    }

    #[test]
    fn who_may_do_more_on_the_whole_host_may_do_it_for_each_tenant() {
        let view = View::new(Role::Read, BTreeMap::from([("acme".into(), Role::Operate)]));
        assert_eq!((view.role_for("acme"), view.role_for("beta")), (Role::Operate, Role::Read));
    }

    #[test]
    fn confining_never_gives_more() {
        assert_eq!(View::of_host(Role::Admin).confined_to("acme").role_for("acme"), Role::Operate);
        assert_eq!(View::of_host(Role::Read).confined_to("acme").role_for("acme"), Role::Read);
        let twice = view().confined_to("gamma");
        assert_eq!((twice.role_for("gamma"), twice.role_for("acme")), (Role::None, Role::None));
    }
}
