//! Why a channel is as it is, for people.

use vfiomux_rpc::{Explanation, Observed};

use crate::table::{Facts, Paint, word};
use crate::units;

pub(crate) fn details(explanation: &Explanation, paint: Paint) -> String {
    let mut facts = Facts::default();
    facts.add("channel", &explanation.channel);
    if let Some(pace) = &explanation.pace {
        facts.add("now", &pace.summary);
        if !pace.next.is_empty() {
            facts.add("next", &pace.next);
        }
        facts.add("cause", word(pace.cause));
        for (place, line) in observed(&pace.observed).into_iter().enumerate() {
            facts.add(if place == 0 { "observed" } else { "" }, line);
        }
    }
    for (place, line) in explanation.plan.iter().enumerate() {
        facts.add(if place == 0 { "plan" } else { "" }, line);
    }
    match &explanation.refused {
        Some(refused) => {
            facts.add("refused", format!("{} at {}", refused.method, units::moment(refused.time_unix_ns)));
            facts.add("because", &refused.reason);
            if !refused.next.is_empty() {
                facts.add("next", &refused.next);
            }
        }
        None => facts.add("refused", "nothing that is remembered"),
    }
    facts.text(paint)
}

fn observed(observed: &Observed) -> Vec<String> {
    let times = [
        ("waiting for its own limit", observed.own_limit_ns),
        ("waiting for its tenant's limit", observed.tenant_limit_ns),
        ("waiting while others had their turn", observed.turn_wait_ns),
    ];
    let mut lines = vec![
        format!(
            "{} requests, {}, in {}; {} by others on the device",
            observed.ops,
            units::bytes(observed.bytes),
            units::nanoseconds(observed.interval_ns),
            observed.others_ops
        ),
        format!(
            "{} in the ring and {} in the device, in the mean; sidecore busy {}%",
            units::nanoseconds(observed.ring_wait_mean_ns),
            units::nanoseconds(observed.device_mean_ns),
            observed.sidecore_busy_permille / 10
        ),
    ];
    let waits = times.into_iter().filter(|(_, waited_ns)| *waited_ns > 0);
    lines.extend(waits.map(|(what, waited_ns)| format!("{} {what}", units::nanoseconds(waited_ns))));
    lines
}
