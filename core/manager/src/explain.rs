//! What holds a channel up, from what was counted over an interval.
//!
//! The part of the interval that its requests spent waiting for each thing is set side by side, and the largest is the answer, if it is
//! large enough to matter. What is nearest to the request counts first where two say the same: time that a limit took is not
//! also blamed on the ring, and a device that is slow because its neighbours fill it is not blamed itself.

use vfiomux_rpc::{Observed, Oper, Pace, SlowCause};

/// What is looked at beside the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// Name of the channel.
    pub channel: String,
    /// Whose it is.
    pub tenant: String,
    /// Name of its device.
    pub device: String,
    /// Number of its sidecore; none while it is not served.
    pub sidecore: Option<u32>,
    /// What it does.
    pub oper: Oper,
    /// What a request takes at the device when nobody is in its way, nanoseconds; none when that was never seen.
    pub unloaded_ns: Option<u64>,
}

/// Less of an interval than this is not worth a word, in thousandths.
const WORTH_PERMILLE: u64 = 50;
/// A sidecore that is busier than this is what requests wait for, in thousandths.
const SIDECORE_FULL_PERMILLE: u32 = 900;
/// A device that takes so many times what it takes by itself is slow.
const SLOW_FACTOR: u64 = 2;

/// Decides what a channel's requests waited for most, and says so.
#[must_use]
pub fn pace(about: &Circumstances, observed: Observed) -> Pace {
    let cause = cause(about, &observed);
    let (summary, next) = words(cause, about, &observed);
    Pace { cause, summary, next, observed }
}

fn cause(about: &Circumstances, observed: &Observed) -> SlowCause {
    if about.sidecore.is_none() || !matches!(about.oper, Oper::Active | Oper::Listening) {
        return SlowCause::NotServed;
    }
    let worth = |waited_ns: u64| permille(waited_ns, observed.interval_ns) >= WORTH_PERMILLE;
    let Observed { own_limit_ns, tenant_limit_ns, .. } = *observed;
    if worth(own_limit_ns) || worth(tenant_limit_ns) {
        return if own_limit_ns >= tenant_limit_ns { SlowCause::OwnLimit } else { SlowCause::TenantLimit };
    }
    if observed.ops == 0 {
        return SlowCause::Idle;
    }
    let waits_longer = observed.ring_wait_mean_ns > observed.device_mean_ns;
    let slow = about
        .unloaded_ns
        .is_some_and(|unloaded_ns| observed.device_mean_ns > unloaded_ns.saturating_mul(SLOW_FACTOR));
    match () {
        () if waits_longer && worth(observed.turn_wait_ns) && observed.others_ops > 0 => {
            SlowCause::Neighbours
        }
        () if waits_longer && worth(observed.turn_wait_ns) => SlowCause::Device,
        () if waits_longer && observed.sidecore_busy_permille >= SIDECORE_FULL_PERMILLE => {
            SlowCause::Sidecore
        }
        () if slow && observed.others_ops > observed.ops => SlowCause::Neighbours,
        () if slow => SlowCause::Device,
        () => SlowCause::Nothing,
    }
}

fn words(cause: SlowCause, about: &Circumstances, observed: &Observed) -> (String, String) {
    let Circumstances { channel, tenant, device, oper, .. } = about;
    let part = |waited_ns: u64| percent(permille(waited_ns, observed.interval_ns));
    let (ring_us, device_us) = (observed.ring_wait_mean_ns / 1000, observed.device_mean_ns / 1000);
    match cause {
        SlowCause::NotServed => (
            format!("it is {}, and serves nobody", format!("{oper:?}").to_lowercase()),
            format!("see vfiomuxctl channel show {channel}"),
        ),
        SlowCause::Idle => ("its guest asks for nothing".to_owned(), String::new()),
        SlowCause::OwnLimit => (
            format!("its own limit held requests back for {} of the time", part(observed.own_limit_ns)),
            format!("raise it with vfiomuxctl channel tune {channel}, if it is to have more"),
        ),
        SlowCause::TenantLimit => (
            format!(
                "the limit of tenant {tenant} held its requests back for {} of the time",
                part(observed.tenant_limit_ns)
            ),
            format!("see vfiomuxctl tenant show {tenant}; raise the limit, or limit the tenant's other channels"),
        ),
        SlowCause::Neighbours => (
            format!(
                "device {device} is asked for more than it has room for, and others have their share: they had {} requests while it had {}",
                observed.others_ops, observed.ops
            ),
            format!("give it a reservation or a larger share with vfiomuxctl channel tune {channel}, or move it to another device"),
        ),
        SlowCause::Sidecore => (
            format!(
                "sidecore {} is busy {} of the time: requests wait {ring_us} us before they are taken",
                about.sidecore.unwrap_or(0),
                percent(u64::from(observed.sidecore_busy_permille))
            ),
            "add a processor with [sidecores] cpus, or see vfiomuxctl sidecore list for one with room and move it there"
                .to_owned(),
        ),
        SlowCause::Device if observed.ring_wait_mean_ns > observed.device_mean_ns => (
            format!("device {device} does all that it can for this channel alone: requests wait {ring_us} us for room there"),
            "ask for less at a time, or move it to a faster device".to_owned(),
        ),
        SlowCause::Device => (
            format!(
                "device {device} takes {device_us} us a request, where {} us is what it takes by itself",
                about.unloaded_ns.unwrap_or(0) / 1000
            ),
            format!("see vfiomuxctl device show {device}, and vfiomuxctl events for its health"),
        ),
        // The enum is not exhaustive for those outside of its crate.
        _ => (
            format!("nothing holds it up: requests wait {ring_us} us and take {device_us} us at the device"),
            "what a guest measures beyond that is its own and its VMM's; more requests at a time give more of them".to_owned(),
        ),
    }
}

fn permille(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 1000 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

fn percent(permille: u64) -> String {
    format!("{}%", permille / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn about() -> Circumstances {
        Circumstances {
            channel: "db0".to_owned(),
            tenant: "acme".to_owned(),
            device: "sim0".to_owned(),
            sidecore: Some(1),
            oper: Oper::Active,
            unloaded_ns: Some(80_000),
        }
    }

    fn busy() -> Observed {
        Observed {
            interval_ns: SECOND_NS,
            ops: 1000,
            bytes: 4_096_000,
            ring_wait_mean_ns: 5_000,
            device_mean_ns: 90_000,
            ..Observed::default()
        }
    }

    #[track_caller]
    fn check(observed: Observed, expected: SlowCause, said: &str) {
        let pace = pace(&about(), observed);
        assert_eq!(pace.cause, expected, "{}", pace.summary);
        assert!(pace.summary.contains(said), "{}", pace.summary);
    }

    #[test]
    fn a_limit_is_named_by_whose_it_is() {
        let limited = Observed { own_limit_ns: 700_000_000, tenant_limit_ns: 100_000_000, ..busy() };
        check(limited, SlowCause::OwnLimit, "70% of the time");
        let limited = Observed { own_limit_ns: 0, tenant_limit_ns: 300_000_000, ..busy() };
        check(limited, SlowCause::TenantLimit, "tenant acme held its requests back for 30%");
        // So strict that nothing ended within the interval.
        check(Observed { ops: 0, ..limited }, SlowCause::TenantLimit, "tenant acme");
        // A moment of it is nothing to speak of.
        check(Observed { own_limit_ns: 10_000_000, ..busy() }, SlowCause::Nothing, "nothing holds it up");
    }

    #[test]
    fn neighbours_are_blamed_for_turns_and_for_a_device_that_they_fill() {
        let waits =
            Observed { ring_wait_mean_ns: 400_000, turn_wait_ns: 500_000_000, others_ops: 90_000, ..busy() };
        check(waits, SlowCause::Neighbours, "they had 90000 requests while it had 1000");
        let filled = Observed { device_mean_ns: 900_000, others_ops: 90_000, ..busy() };
        check(filled, SlowCause::Neighbours, "others have their share");
    }

    #[test]
    fn who_fills_a_device_alone_is_told_so() {
        let waits = Observed { ring_wait_mean_ns: 400_000, turn_wait_ns: 500_000_000, ..busy() };
        check(waits, SlowCause::Device, "for this channel alone");
    }

    #[test]
    fn a_device_is_blamed_when_nobody_else_is_on_it() {
        check(
            Observed { device_mean_ns: 900_000, ..busy() },
            SlowCause::Device,
            "900 us a request, where 80 us",
        );
        let unknown = Circumstances { unloaded_ns: None, ..about() };
        assert_eq!(pace(&unknown, Observed { device_mean_ns: 900_000, ..busy() }).cause, SlowCause::Nothing);
    }

    #[test]
    fn a_sidecore_is_blamed_when_it_has_no_time() {
        let waits = Observed { ring_wait_mean_ns: 400_000, sidecore_busy_permille: 990, ..busy() };
        check(waits, SlowCause::Sidecore, "sidecore 1 is busy 99%");
    }

    #[test]
    fn who_asks_for_nothing_and_who_is_not_served_is_told_so() {
        check(
            Observed { interval_ns: SECOND_NS, ..Observed::default() },
            SlowCause::Idle,
            "asks for nothing",
        );
        let suspended = Circumstances { oper: Oper::Suspended, ..about() };
        let pace = pace(&suspended, busy());
        assert_eq!(pace.cause, SlowCause::NotServed);
        assert!(pace.summary.contains("it is suspended"), "{}", pace.summary);
    }
}
