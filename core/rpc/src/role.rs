use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::View;

/// What a caller may do; each includes the ones before it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Nothing.
    #[default]
    None,
    /// Look.
    Read,
    /// Create, attach, resize, tune and destroy channels.
    Operate,
    /// Claim, release and format devices; set sidecores.
    Admin,
}

impl Role {
    /// Its name in the configuration and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// The process at the other end of a connection, as the kernel names it (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Its user.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its process number when it connected; 0 when it is in a namespace that ours does not see.
    pub pid: i32,
    /// The most that it may do with anything; [`View`] says with what.
    pub role: Role,
    /// Number of the audit entry of the request that it makes; what is found out on the way is noted there.
    pub audit: Option<u64>,
}

/// Who has which role. The highest that fits counts; root and the daemon's own user are always admin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Roles {
    /// Who may look.
    pub read: Members,
    /// Who may create, attach, resize, tune and destroy channels.
    pub operate: Members,
    /// Who may claim, release and format devices, and set sidecores.
    pub admin: Members,
    /// Who may look at, and operate, the channels of one tenant, by the tenant's name. Who has no other role is shown nothing else.
    pub tenants: BTreeMap<String, TenantRoles>,
}

/// Who has which role for one tenant's objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantRoles {
    /// Who may look.
    pub read: Members,
    /// Who may create, attach, resize, tune and destroy the tenant's channels.
    pub operate: Members,
    /// The directory in which all its endpoints must lie; without one, only an operator of the host gives it endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<PathBuf>,
}

/// Those who have a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Members {
    /// By user.
    pub uids: Vec<u32>,
    /// By group: the process's primary group, or one that `/etc/group` puts its user in.
    pub gids: Vec<u32>,
}

impl Members {
    fn include(&self, uid: u32, gids: &[u32]) -> bool {
        self.uids.contains(&uid) || gids.iter().any(|gid| self.gids.contains(gid))
    }
}

impl Roles {
    /// The role of a user who is in the groups `gids`, for a daemon that runs as `own_uid`.
    #[must_use]
    pub fn role_of(&self, own_uid: u32, uid: u32, gids: &[u32]) -> Role {
        if uid == 0 || uid == own_uid || self.admin.include(uid, gids) {
            Role::Admin
        } else if self.operate.include(uid, gids) {
            Role::Operate
        } else if self.read.include(uid, gids) {
            Role::Read
        } else {
            Role::None
        }
    }

    /// What a user who is in the groups `gids` is shown, and may do with what, for a daemon that runs as `own_uid`.
    #[must_use]
    pub fn view_of(&self, own_uid: u32, uid: u32, gids: &[u32]) -> View {
        let for_tenant = |roles: &TenantRoles| {
            if roles.operate.include(uid, gids) {
                Some(Role::Operate)
            } else {
                roles.read.include(uid, gids).then_some(Role::Read)
            }
        };
        let tenants =
            self.tenants.iter().filter_map(|(name, roles)| Some((name.clone(), for_tenant(roles)?)));
        View::new(self.role_of(own_uid, uid, gids), tenants.collect())
    }

    /// Whether any role goes by group, so that a caller's groups must be known.
    pub(crate) fn go_by_group(&self) -> bool {
        let of_tenants = self.tenants.values().flat_map(|roles| [&roles.read, &roles.operate]);
        let mut all = [&self.read, &self.operate, &self.admin].into_iter().chain(of_tenants);
        all.any(|members| !members.gids.is_empty())
    }
}

/// The groups that the accounts files `passwd` and `group` put the user in, beside the primary one of its process.
pub(crate) fn groups_of(uid: u32, passwd: &str, group: &str) -> Vec<u32> {
    let number = |field: Option<&str>| field.and_then(|text| text.parse::<u32>().ok());
    let user = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let Some(user) = user.into_iter().find(|fields| number(fields.get(2).copied()) == Some(uid)) else {
        return Vec::new();
    };
    let name = user.first().copied().unwrap_or_default();
    let mut gids: Vec<u32> = number(user.get(3).copied()).into_iter().collect();
    for line in group.lines() {
        let mut fields = line.split(':').skip(2);
        let gid = number(fields.next());
        if fields.next().is_some_and(|members| members.split(',').any(|member| member == name)) {
            gids.extend(gid);
        }
    }
    gids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_role_that_fits_counts() {
        let roles = Roles {
            read: Members { uids: vec![7], gids: vec![70] },
            operate: Members { uids: vec![], gids: vec![80] },
            admin: Members { uids: vec![9], gids: vec![] },
            ..Roles::default()
        };
        let role = |uid, gids: &[u32]| roles.role_of(500, uid, gids);
        assert_eq!(role(0, &[]), Role::Admin);
        assert_eq!(role(500, &[]), Role::Admin);
        assert_eq!(role(9, &[70]), Role::Admin);
        assert_eq!(role(7, &[80]), Role::Operate);
        assert_eq!(role(8, &[70]), Role::Read);
        assert_eq!(role(8, &[71]), Role::None);
    }

    #[test]
    fn a_role_for_a_tenant_is_none_for_the_host() {
        let acme = TenantRoles {
            read: Members { uids: vec![7], gids: vec![] },
            operate: Members { uids: vec![], gids: vec![80] },
            endpoints: None,
        };
        let roles = Roles { tenants: BTreeMap::from([("acme".into(), acme)]), ..Roles::default() };
        let role = |uid, gids: &[u32]| {
            let view = roles.view_of(500, uid, gids);
            (view.role_for("acme"), view.role_for("beta"))
        };
        assert_eq!(role(7, &[]), (Role::Read, Role::None));
        assert_eq!(role(7, &[80]), (Role::Operate, Role::None));
        assert_eq!(role(8, &[]), (Role::None, Role::None));
        assert_eq!(role(0, &[]), (Role::Admin, Role::Admin));
        assert!(roles.go_by_group());
    }

    #[test]
    fn groups_come_from_the_accounts_files() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:100::/home/ann:/bin/sh\n";
        let group = "root:x:0:\nvfiomux:x:990:bob,ann\nother:x:991:annie\nbad:x:no:ann\n";
        assert_eq!(groups_of(1000, passwd, group), [100, 990]);
        assert!(groups_of(1001, passwd, group).is_empty());
    }
}
