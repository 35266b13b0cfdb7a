//! Who may be told of what: asked of every request before it is carried out (C5).
//!
//! A caller that is confined to tenants must not learn from a refusal what it could not learn from a list. So an object that is
//! another's is refused in the very words in which one is that does not exist; the names that a tenant may choose for its own
//! channels, `acme.disk`, cannot be taken by anybody else's; and its endpoints lie in a directory of its own, so that no
//! complaint tells of other sockets.

use std::path::{Component, Path};

use vfiomux_rpc::{
    Endpoint, EndpointMode, ErrorCode, Method, Object, ObjectKind, Role, RpcError, Target, View,
};

use super::Control;
use super::channel::unknown_channel;
use super::job::unknown_job;
use super::tenant::unknown_tenant;
use crate::seeded::{self, Bug};

impl Control {
    /// Whether the caller may ask this of what it asks it of.
    pub(crate) fn check_view(&self, view: &View, method: &Method) -> Result<(), RpcError> {
        if matches!(method, Method::AuditList(_)) && view.shows_host() && view.host_role() < Role::Admin {
            return Err(RpcError::new(ErrorCode::Permission, "the audit of the host is its administrators'")
                .about(method.name())
                .next("ask for one tenant's with --as-tenant, or have your user listed under roles.admin"));
        }
        if view.shows_host() && view.host_role() >= method.role_required() {
            return Ok(());
        }
        match method {
            Method::ChannelCreate(wanted) => {
                check_role(view, &wanted.tenant, method)?;
                check_name(&wanted.tenant, &wanted.name)?;
                wanted
                    .endpoint
                    .as_ref()
                    .map_or(Ok(()), |endpoint| self.check_endpoint(&wanted.tenant, endpoint))
            }
            Method::ChannelAttach(wanted) => {
                let tenant = self.tenant_shown(view, &wanted.name)?;
                check_role(view, tenant, method)?;
                self.check_endpoint(tenant, &wanted.endpoint)
            }
            Method::ChannelSet(wanted) => {
                let tenant = self.tenant_shown(view, &wanted.name)?;
                check_role(view, tenant, method)?;
                let renamed = wanted.new_name.as_ref().filter(|new_name| **new_name != wanted.name);
                renamed.map_or(Ok(()), |new_name| check_name(tenant, new_name))
            }
            // The name of a channel that was refused says whose it would have been.
            Method::ChannelExplain(wanted)
                if self.channel_named(&wanted.name).is_err()
                    && wanted.name.split_once('.').is_some_and(|(tenant, _)| view.shows(tenant)) =>
            {
                Ok(())
            }
            Method::TenantShow(wanted) if !view.shows(&wanted.name) => Err(unknown_tenant(&wanted.name)),
            _ => match method.target() {
                Target::Channel(name) => check_role(view, self.tenant_shown(view, name)?, method),
                Target::Device(name) if !self.devices.contains_key(&super::service::canonical(name)) => {
                    Err(RpcError::not_found(
                        format!("device {name}"),
                        "see the names with vfiomuxctl device list",
                    ))
                }
                Target::Job(id) => match self.jobs.owner(id) {
                    Some(tenant) if view.shows(tenant) => check_role(view, tenant, method),
                    _ => Err(unknown_job(id)),
                },
                // What is no tenant's object has been decided by the role, and what an answer lists is chosen by the view.
                _ => Ok(()),
            },
        }
    }

    /// Whose the channel of this name is, when the caller may know of it.
    fn tenant_shown(&self, view: &View, name: &str) -> Result<&str, RpcError> {
        let channel = self.channel_named(name)?;
        let tenant = channel.setting.tenant.as_str();
        if view.shows(tenant) || seeded::is(Bug::ListAll) { Ok(tenant) } else { Err(unknown_channel(name)) }
    }

    /// Whether a tenant may have an endpoint there: the daemon makes its socket with rights that the tenant has not.
    fn check_endpoint(&self, tenant: &str, endpoint: &Endpoint) -> Result<(), RpcError> {
        let directory = self.config.roles.tenants.get(tenant).and_then(|roles| roles.endpoints.as_deref());
        let refused = |why: String| RpcError::new(ErrorCode::Permission, why).about("endpoint");
        let Some(directory) = directory else {
            return Err(refused(format!("tenant {tenant} has no directory for endpoints")).next(format!(
                "have roles.tenants.{tenant}.endpoints set in the daemon's configuration, or an operator of the host attach it"
            )));
        };
        if endpoint.mode == EndpointMode::Client {
            return Err(refused("the daemon connects nowhere on a tenant's word".to_owned())
                .next("leave --client out, and have the VMM connect"));
        }
        if is_directly_in(&endpoint.path, directory) {
            return Ok(());
        }
        Err(refused(format!("endpoints of tenant {tenant} lie in {}", directory.display()))
            .next(format!("choose a path {}/NAME.sock", directory.display())))
    }

    /// Whose an object is: told in events about it, and those never to another tenant.
    pub(crate) fn owner_of(&self, object: &Object) -> Option<String> {
        let name = object.name.as_str();
        match object.kind {
            ObjectKind::Channel => {
                let known = self.channels.values().find(|channel| channel.setting.name == name);
                // A channel that was denied is nowhere, but its name may say whose it would have been.
                known
                    .map(|channel| channel.setting.tenant.clone())
                    .or_else(|| name.split_once('.').map(|(tenant, _)| tenant.to_owned()))
            }
            ObjectKind::Tenant => Some(name.to_owned()),
            ObjectKind::Job => self.jobs.owner(name.parse().ok()?).map(str::to_owned),
            _ => None,
        }
    }
}

fn check_role(view: &View, tenant: &str, method: &Method) -> Result<(), RpcError> {
    let (has, needed) = (view.role_for(tenant), method.role_required());
    if has >= needed || (seeded::is(Bug::ListAll) && has.max(view.highest_role()) >= needed) {
        return Ok(());
    }
    Err(RpcError::new(
        ErrorCode::Permission,
        format!(
            "for tenant {tenant} you have the role {}; {} needs {}",
            has.name(),
            method.name(),
            needed.name()
        ),
    )
    .about(format!("tenant {tenant}"))
    .next("see what you have with vfiomuxctl whoami"))
}

/// A tenant chooses among names that begin with its own: whether another has taken a name is nothing that it could find out.
fn check_name(tenant: &str, name: &str) -> Result<(), RpcError> {
    if name.split_once('.').is_some_and(|(prefix, _)| prefix == tenant) {
        return Ok(());
    }
    Err(RpcError::invalid_argument(
        "name",
        format!("a channel that tenant {tenant} names itself is called {tenant}.NAME"),
    )
    .next(format!("call it {tenant}.{}", name.rsplit('.').next().unwrap_or_default())))
}

fn is_directly_in(path: &Path, directory: &Path) -> bool {
    path.parent() == Some(directory)
        && path.is_absolute()
        && matches!(path.components().next_back(), Some(Component::Normal(_)))
        && !path.components().any(|component| matches!(component, Component::ParentDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_chooses_among_names_that_begin_with_its_own() {
        assert!(check_name("acme", "acme.disk").is_ok());
        for name in ["disk", "beta.disk", "acme", "acme-disk", "acmee.disk"] {
            assert!(check_name("acme", name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_endpoint_lies_in_the_directory_and_no_deeper() {
        let is = |path: &str| is_directly_in(Path::new(path), Path::new("/run/acme"));
        assert!(is("/run/acme/disk.sock"));
        for path in
            ["/run/acme", "/run/acme/", "/run/acme/..", "/run/acme/../x.sock", "/run/acme/a/b", "disk.sock"]
        {
            assert!(!is(path), "{path}");
        }
    }
}
