//! The caller, for people.

use vfiomux_rpc::{CallerInfo, Role};

use crate::table::{Facts, Paint};

pub(crate) fn overview(caller: &CallerInfo, paint: Paint) -> String {
    let mut facts = Facts::default();
    facts.add("user", format!("{}, group {}", caller.uid, caller.gid));
    facts.add("on the host", caller.role.name().to_owned());
    for (tenant, role) in &caller.tenants {
        facts.add("tenant", format!("{tenant}, {}", role.name()));
    }
    if caller.role < Role::Read {
        facts.add("shown", "objects of these tenants, and nothing else".to_owned());
    }
    facts.text(paint)
}
