//! Tenants for people.

use vfiomux_rpc::TenantInfo;

use crate::guarantees;
use crate::table::{Cell, Facts, Paint, Table, printable};
use crate::units;

pub(crate) fn list(tenants: &Vec<TenantInfo>, paint: Paint) -> String {
    if tenants.is_empty() {
        return "no tenants\n".to_owned();
    }
    let mut table = Table::new(
        &["TENANT", "CHANNELS", "SIZE", "RESERVED", "READS", "WRITES", "LIMITED"],
        &[1, 2, 3, 4, 5],
    );
    for tenant in tenants {
        let limited = guarantees::limit_lines(&tenant.limits).join("; ");
        table.row([
            Cell::from(&tenant.name),
            Cell::from(tenant.channels.len().to_string()),
            Cell::from(units::bytes(tenant.size_bytes)),
            Cell::from(tenant.reserved_ops.to_string()),
            Cell::from(tenant.counters.read_ops.to_string()),
            Cell::from(tenant.counters.write_ops.to_string()),
            Cell::optional(Some(limited).filter(|limited| !limited.is_empty())),
        ]);
    }
    table.text(paint)
}

pub(crate) fn details(tenant: &TenantInfo, paint: Paint) -> String {
    let mut facts = Facts::default();
    facts.add("tenant", &tenant.name);
    let channels = if tenant.channels.is_empty() { "-".to_owned() } else { tenant.channels.join(", ") };
    facts.add("channels", channels);
    facts.add("size", units::bytes(tenant.size_bytes));
    let limits = guarantees::limit_lines(&tenant.limits);
    facts.add("limits", if limits.is_empty() { "-" } else { "" });
    for line in limits {
        facts.add("", line);
    }
    facts.add("reserved", format!("{} reads of 4K a second", tenant.reserved_ops));
    facts.add("generation", tenant.generation.to_string());
    let counters = &tenant.counters;
    facts.add("reads", format!("{}, {}", counters.read_ops, units::bytes(counters.read_bytes)));
    facts.add("writes", format!("{}, {}", counters.write_ops, units::bytes(counters.write_bytes)));
    facts.add("failed", counters.error_ops.to_string());
    facts.add(
        "waited",
        format!(
            "{} for limits of the channels, {} for the tenant's",
            units::nanoseconds(counters.limited_ns),
            units::nanoseconds(counters.tenant_limited_ns)
        ),
    );
    facts.text(paint)
}

pub(crate) fn tuned(tenant: &TenantInfo) -> String {
    let limits = guarantees::limit_lines(&tenant.limits);
    let held = if limits.is_empty() {
        "held to nothing".to_owned()
    } else {
        format!("held to {}", limits.join("; "))
    };
    format!("tenant {} {held}, over {} channels", printable(&tenant.name), tenant.channels.len())
}
