use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Role;

/// Whom the daemon takes a caller for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallerInfo {
    /// Its user.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// What it may do on the whole host.
    pub role: Role,
    /// What it may do with the objects of single tenants. With no role on the host, these are all that it is shown.
    pub tenants: BTreeMap<String, Role>,
}
