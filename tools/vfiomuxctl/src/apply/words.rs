//! What differs, as it would be typed.

use vfiomux_rpc::{Endpoint, EndpointMode, Guarantees, Labels, Limits, Objective, RateLimit};

/// `iops 5000 -> 8000, share none -> 200`.
pub(super) fn guarantees(from: &Guarantees, to: &Guarantees) -> String {
    let mut said = limit_changes(&limits_of(from), &limits_of(to));
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let share = |guarantees: &Guarantees| number(guarantees.share.map(u64::from));
    said.extend(change("reserve", number(from.reservation_ops), number(to.reservation_ops)));
    said.extend(change("share", share(from), share(to)));
    said.extend(change("objective", from.objective.map(objective), to.objective.map(objective)));
    said.join(", ")
}

/// As [`guarantees`], of a tenant.
pub(super) fn limits(from: &Limits, to: &Limits) -> String {
    limit_changes(from, to).join(", ")
}

pub(super) fn labels(from: &Labels, to: &Labels) -> String {
    let text = |labels: &Labels| {
        let pairs: Vec<String> = labels.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Some(pairs.join(" ")).filter(|text| !text.is_empty())
    };
    change("labels", text(from), text(to)).unwrap_or_default()
}

pub(super) fn endpoint(endpoint: &Endpoint) -> String {
    let client = if endpoint.mode == EndpointMode::Client { ", as a client" } else { "" };
    format!("{}{client}", endpoint.path.display())
}

/// A size in the largest unit that it is a whole number of, so that nothing is rounded away.
pub(super) fn size(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let fits = units.into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    fits.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn limit_changes(from: &Limits, to: &Limits) -> Vec<String> {
    let plain = |value: u64| value.to_string();
    let counted = |limit: Option<RateLimit>| limit.map(|limit| rate(limit, plain));
    let sized = |limit: Option<RateLimit>| limit.map(|limit| rate(limit, size));
    [
        change("iops", counted(from.ops), counted(to.ops)),
        change("bps", sized(from.bytes), sized(to.bytes)),
        change("read_iops", counted(from.read_ops), counted(to.read_ops)),
        change("read_bps", sized(from.read_bytes), sized(to.read_bytes)),
        change("write_iops", counted(from.write_ops), counted(to.write_ops)),
        change("write_bps", sized(from.write_bytes), sized(to.write_bytes)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn limits_of(guarantees: &Guarantees) -> Limits {
    let Guarantees { ops, bytes, read_ops, read_bytes, write_ops, write_bytes, .. } = *guarantees;
    Limits { ops, bytes, read_ops, read_bytes, write_ops, write_bytes }
}

fn change(what: &str, from: Option<String>, to: Option<String>) -> Option<String> {
    let none = || "none".to_owned();
    (from != to).then(|| {
        format!("{what} {} -> {}", from.clone().unwrap_or_else(none), to.clone().unwrap_or_else(none))
    })
}

fn rate(limit: RateLimit, show: impl Fn(u64) -> String) -> String {
    let burst = limit.burst.map(|burst| format!("/{}", show(burst)));
    format!("{}{}", show(limit.per_second), burst.unwrap_or_default())
}

fn objective(objective: Objective) -> String {
    let Objective { permille, latency_ns } = objective;
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")];
    let fits = units.into_iter().find(|(unit_ns, _)| latency_ns.is_multiple_of(*unit_ns));
    let (unit_ns, unit) = fits.unwrap_or((1, "ns"));
    let tenth = if permille % 10 == 0 { String::new() } else { format!(".{}", permille % 10) };
    format!("{}{unit}@{}{tenth}", latency_ns / unit_ns, permille / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_said_as_it_would_be_typed_and_nothing_else() {
        let from = Guarantees {
            ops: Some(RateLimit { per_second: 5000, burst: Some(500) }),
            share: Some(100),
            objective: Some(Objective { permille: 990, latency_ns: 500_000 }),
            ..Guarantees::default()
        };
        let to = Guarantees {
            ops: Some(RateLimit { per_second: 8000, burst: None }),
            bytes: Some(RateLimit { per_second: 100 << 20, burst: None }),
            share: Some(100),
            objective: Some(Objective { permille: 999, latency_ns: 2_000_000 }),
            ..Guarantees::default()
        };
        assert_eq!(
            guarantees(&from, &to),
            "iops 5000/500 -> 8000, bps none -> 100M, objective 500us@99 -> 2ms@99.9"
        );
        assert_eq!(guarantees(&to, &to), "");
    }

    #[test]
    fn sizes_are_exact() {
        assert_eq!([0, 1000, 1536, 256 << 20, 3 << 40].map(size), ["0", "1000", "1536", "256M", "3T"]);
    }
}
