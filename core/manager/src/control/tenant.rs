//! Tenants: what all channels of one are held to together.
//!
//! A tenant is a name on channels; it exists as long as it has a channel or a limit. Its limits are one [`Group`] that all its
//! channels take from, whichever sidecores serve them. A change of them is made in the group itself, which all share: it is in
//! force for all channels at the same moment, and none of them is stopped for it (Q3).

use std::collections::BTreeSet;
use std::sync::Arc;

use vfiomux_qos::Group;
use vfiomux_rpc::{
    Change, ErrorCode, EventKind, Limits, ObjectKind, RpcError, TenantCounters, TenantInfo, Ticket, call,
};
use vfiomux_sidecore::Order;

use super::Control;
use super::channel::{Channel, internal};
use super::tune::rate;
use crate::event::event;
use crate::journal::{Record, TenantSetting};

/// Longest name, bytes.
const NAME_BYTES_MAX: usize = 63;

impl Control {
    /// `tenant.list`.
    pub(crate) fn tenant_list(&self) -> Vec<TenantInfo> {
        let with_channels = self.channels.values().map(|channel| channel.setting.tenant.as_str());
        let settings = self.journal.settings().tenants.iter();
        let with_limits =
            settings.filter(|(_, setting)| !setting.limits.is_none()).map(|(name, _)| name.as_str());
        let names: BTreeSet<&str> = with_channels.chain(with_limits).collect();
        names.into_iter().map(|name| self.tenant_info(name)).collect()
    }

    /// `tenant.show`.
    pub(crate) fn tenant_show(&self, name: &str) -> Result<TenantInfo, RpcError> {
        let known =
            self.journal.settings().tenants.contains_key(name) || self.channels_of(name).next().is_some();
        if known {
            return Ok(self.tenant_info(name));
        }
        Err(unknown_tenant(name))
    }

    /// `tenant.tune`: journalled, then in force for all its channels at once. A tenant without channels can be given limits for
    /// those that it will have.
    pub(crate) fn tenant_tune(
        &mut self,
        ticket: Ticket,
        uid: u32,
        change: &Change,
        wanted: &call::TenantTune,
    ) {
        let name = &wanted.name;
        let setting = match self.tenant_checked(change, wanted) {
            Ok(setting) => setting,
            Err(error) => return self.rpc.reply(ticket, Err(error)),
        };
        let Some(setting) = setting else {
            return self.rpc.reply(ticket, Ok(self.tenant_info(name).into()));
        };
        if let Err(error) = self.journal.append(&Record::Tenant { name: name.clone(), setting }) {
            return self.rpc.reply(ticket, Err(internal(&error)));
        }
        let mut told = event(EventKind::Setting, ObjectKind::Tenant, name.clone());
        (told.generation, told.uid) = (Some(setting.generation), Some(uid));
        self.tell(told);
        let owned = name.clone();
        self.hold_tenant(name, &setting.limits, move |control, result| {
            let answer = result.map(|()| control.tenant_info(&owned).into());
            control.rpc.reply(ticket, answer);
        });
    }

    /// What a tune comes to; none when nothing changes, or this is a dry run.
    fn tenant_checked(
        &self,
        change: &Change,
        wanted: &call::TenantTune,
    ) -> Result<Option<TenantSetting>, RpcError> {
        let name = &wanted.name;
        let about = format!("tenant {name}");
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(RpcError::invalid_argument(
                "name",
                format!("a tenant's name has 1 to {NAME_BYTES_MAX} characters, and no control characters"),
            ));
        }
        let present = self.journal.settings().tenants.get(name).copied().unwrap_or_default();
        if let Some(expected) = change.expected_generation.filter(|&expected| expected != present.generation)
        {
            return Err(RpcError::new(
                ErrorCode::Conflict,
                format!("{about} has generation {}, not {expected}", present.generation),
            )
            .about(about)
            .next("look at it again with vfiomuxctl tenant show, then ask anew"));
        }
        Group::check(&group_limits(&wanted.limits)).map_err(|error| {
            RpcError::invalid_argument("limits", error.to_string()).next("see vfiomuxctl tenant tune --help")
        })?;
        let changes = present.limits != wanted.limits && !change.dry_run;
        Ok(changes.then_some(TenantSetting { limits: wanted.limits, generation: present.generation + 1 }))
    }

    /// Has a tenant's channels held to `limits`: in the group that they have, or by a group that each is given. `next` runs when it
    /// is in force for all that are served.
    fn hold_tenant(
        &mut self,
        name: &str,
        limits: &Limits,
        next: impl FnOnce(&mut Control, Result<(), RpcError>) + 'static,
    ) {
        if let Some(group) = self.groups.get(name) {
            let held = group.retune(&group_limits(limits), vfiomux_sidecore::clock_ns());
            return next(self, held.map_err(|error| internal(&error)));
        }
        let Some(group) = self.group_of(name) else { return next(self, Ok(())) };
        let ids: Vec<String> = self.channels_of(name).map(|channel| channel.setting.id.clone()).collect();
        self.give_group(ids, group, |control| next(control, Ok(())));
    }

    fn give_group(
        &mut self,
        mut left: Vec<String>,
        group: Arc<Group>,
        next: impl FnOnce(&mut Control) + 'static,
    ) {
        let Some(id) = left.pop() else { return next(self) };
        let given = group.clone();
        // A channel without a place gets the group with its next.
        self.seat_order(
            &id,
            move |seat| Order::SetGroup { channel: seat.id, group: Some(given) },
            move |control, _| control.give_group(left, group, next),
        );
    }

    /// What a tenant's channels take from; none for a tenant without limits.
    pub(crate) fn group_of(&mut self, tenant: &str) -> Option<Arc<Group>> {
        if let Some(group) = self.groups.get(tenant) {
            return Some(group.clone());
        }
        let setting =
            self.journal.settings().tenants.get(tenant).filter(|setting| !setting.limits.is_none())?;
        match Group::new(&group_limits(&setting.limits), vfiomux_sidecore::clock_ns()) {
            Ok(group) => {
                let group = Arc::new(group);
                self.groups.insert(tenant.to_owned(), group.clone());
                Some(group)
            }
            // They were checked before they were written down: only a journal of another version has such.
            Err(error) => {
                let mut fault = event(EventKind::Fault, ObjectKind::Tenant, tenant);
                fault.reason = Some(error.to_string());
                self.tell(fault);
                None
            }
        }
    }

    fn channels_of(&self, tenant: &str) -> impl Iterator<Item = &Channel> {
        self.channels.values().filter(move |channel| channel.setting.tenant == tenant)
    }

    fn tenant_info(&self, name: &str) -> TenantInfo {
        let setting = self.journal.settings().tenants.get(name).copied().unwrap_or_default();
        let mut info = TenantInfo {
            name: name.to_owned(),
            limits: setting.limits,
            generation: setting.generation,
            ..TenantInfo::default()
        };
        for channel in self.channels_of(name) {
            info.channels.push(channel.setting.name.clone());
            info.size_bytes = info.size_bytes.saturating_add(channel.setting.size_bytes);
            let reserved_ops = channel.setting.guarantees.reservation_ops.unwrap_or(0);
            info.reserved_ops = info.reserved_ops.saturating_add(reserved_ops);
            add(&mut info.counters, channel);
        }
        info.channels.sort();
        info
    }
}

/// What whoever asks for a tenant that is none is told, and whoever may not know of it.
pub(crate) fn unknown_tenant(name: &str) -> RpcError {
    RpcError::not_found(format!("tenant {name}"), "see the names with vfiomuxctl tenant list")
}

fn add(sum: &mut TenantCounters, channel: &Channel) {
    let counters = &channel.counters;
    for (to, from) in [
        (&mut sum.read_ops, &counters.reads),
        (&mut sum.read_bytes, &counters.read_bytes),
        (&mut sum.write_ops, &counters.writes),
        (&mut sum.write_bytes, &counters.write_bytes),
        (&mut sum.error_ops, &counters.errors),
        (&mut sum.limited_ns, &counters.limited_ns),
        (&mut sum.tenant_limited_ns, &counters.tenant_limited_ns),
    ] {
        *to = to.saturating_add(from.get());
    }
}

fn group_limits(limits: &Limits) -> vfiomux_qos::Limits {
    let Limits { ops, bytes, read_ops, read_bytes, write_ops, write_bytes } = *limits;
    vfiomux_qos::Limits {
        ops: ops.map(rate),
        bytes: bytes.map(rate),
        read_ops: read_ops.map(rate),
        read_bytes: read_bytes.map(rate),
        write_ops: write_ops.map(rate),
        write_bytes: write_bytes.map(rate),
    }
}
