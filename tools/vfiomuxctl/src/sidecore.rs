//! Sidecores for people.

use std::cmp::Reverse;

use vfiomux_rpc::{Bucket, SidecoreChannel, SidecoreInfo, SidecoreMode, SidecoreRest};

use crate::table::{Cell, Facts, Paint, Table, word};
use crate::units;

pub(crate) fn list(sidecores: &Vec<SidecoreInfo>, paint: Paint) -> String {
    let mut table =
        Table::new(&["SIDECORE", "CPU", "MODE", "BUSY", "CHANNELS", "NOW", "WAKES IN"], &[0, 1, 3, 4, 6]);
    for sidecore in sidecores {
        let woken = sidecore.rest.wake_to_submit;
        table.row([
            Cell::from(sidecore.index.to_string()),
            Cell::optional(sidecore.cpu),
            Cell::from(sidecore.mode.name()),
            Cell::from(busy(sidecore.busy_permille)),
            Cell::from(sidecore.channels.to_string()),
            Cell::from(if sidecore.rest.asleep { "asleep" } else { "awake" }),
            Cell::optional((woken.count > 0).then(|| units::nanoseconds(woken.p50_ns))),
        ]);
    }
    table.text(paint)
}

pub(crate) fn details(sidecore: &SidecoreInfo, paint: Paint) -> String {
    let mut facts = Facts::default();
    let rest = &sidecore.rest;
    facts.add("sidecore", sidecore.index.to_string());
    facts.add("processor", sidecore.cpu.map_or_else(|| "any".to_owned(), |cpu| cpu.to_string()));
    facts.add("mode", mode(sidecore));
    facts.add("now", if rest.asleep { "asleep" } else { "awake" });
    facts.add("channels", sidecore.channels.to_string());
    facts.add("busy", format!("{} of late", busy(sidecore.busy_permille)));
    facts.add("time", time(rest));
    facts.add("rounds", rounds(&sidecore.breath_time));
    facts.add("sleeps", format!("{}, {} of them too short to pay", rest.naps, rest.short_naps));
    facts.add_some("a sleep costs", (rest.sleep_cost_ns > 0).then(|| units::nanoseconds(rest.sleep_cost_ns)));
    facts.add(
        "woken by",
        format!(
            "kicks {}, devices {}, control {}",
            rest.woken_by_kicks, rest.woken_by_devices, rest.woken_by_orders
        ),
    );
    let woken = rest.wake_to_submit;
    let ns = units::nanoseconds;
    facts.add(
        "wake to submit",
        if woken.count == 0 {
            "-".to_owned()
        } else {
            format!(
                "half within {}, 99% within {}, mean {}",
                ns(woken.p50_ns),
                ns(woken.p99_ns),
                ns(woken.mean_ns)
            )
        },
    );
    let mut text = facts.text(paint);
    if !sidecore.serves.is_empty() {
        text.push('\n');
        text.push_str(&serves(sidecore, paint));
    }
    text
}

/// How long rounds took.
fn rounds(buckets: &[Bucket]) -> String {
    let total: u64 = buckets.iter().map(|bucket| bucket.count).sum();
    let Some(longest) = buckets.last() else { return "-".to_owned() };
    let within = |one_in: u64| {
        let mut beyond = total;
        let bucket = buckets.iter().find(|bucket| {
            beyond = beyond.saturating_sub(bucket.count);
            beyond <= total / one_in
        });
        units::nanoseconds(bucket.unwrap_or(longest).up_to_ns)
    };
    let longest = units::nanoseconds(longest.up_to_ns);
    format!("half within {}, 99.9% within {}, none above {longest}", within(2), within(1000))
}

/// The channels, those first that take most of its time.
fn serves(sidecore: &SidecoreInfo, paint: Paint) -> String {
    let mut channels: Vec<&SidecoreChannel> = sidecore.serves.iter().collect();
    channels.sort_by_key(|channel| Reverse(channel.load_permille));
    let mut table = Table::new(&["CHANNEL", "LOAD", "SUBMISSION QUEUE"], &[1]);
    for channel in channels {
        table.row([
            Cell::from(&channel.name),
            Cell::from(busy(channel.load_permille)),
            Cell::from(word(channel.lane)),
        ]);
    }
    table.text(paint)
}

pub(crate) fn set(sidecore: &SidecoreInfo) -> String {
    format!("sidecore {}: {}, until the daemon ends", sidecore.index, mode(sidecore))
}

/// Thousandths as a percentage.
pub(crate) fn busy(permille: u32) -> String {
    format!("{}.{}%", permille / 10, permille % 10)
}

fn mode(sidecore: &SidecoreInfo) -> String {
    let name = sidecore.mode.name();
    match sidecore.mode {
        SidecoreMode::Poll => format!("{name}: never sleeps"),
        SidecoreMode::Adaptive => format!("{name}: spins up to {}us, then sleeps", sidecore.rest.spin_max_us),
        SidecoreMode::Event => format!("{name}: sleeps at once"),
    }
}

/// How its time was spent, in parts of a hundred.
fn time(rest: &SidecoreRest) -> String {
    let total_ns = rest.busy_ns.saturating_add(rest.spun_ns).saturating_add(rest.asleep_ns);
    if total_ns == 0 {
        return "-".to_owned();
    }
    let share = |part_ns: u64| {
        let permille = u128::from(part_ns) * 1000 / u128::from(total_ns);
        busy(u32::try_from(permille).unwrap_or(1000))
    };
    let (serving, spinning, asleep) = (share(rest.busy_ns), share(rest.spun_ns), share(rest.asleep_ns));
    format!("{serving} serving, {spinning} looking in vain, {asleep} asleep")
}
