//! The daemon in short, for people.

use vfiomux_rpc::Status;

use crate::table::{Facts, Paint};
use crate::{sidecore, units};

pub(crate) fn overview(status: &Status, paint: Paint) -> String {
    let mut facts = Facts::default();
    facts.add(
        "vfiomuxd",
        format!("{}, process {}, up {}", status.version, status.pid, units::duration_ms(status.uptime_ms)),
    );
    facts.add(
        "serves",
        format!("{} devices, {} channels, {} sessions", status.devices, status.channels, status.sessions),
    );
    let events = status.events;
    let kept = events.next_seq.saturating_sub(events.oldest_seq);
    facts.add(
        "events",
        format!("{kept} kept, {} dropped, last number {}", events.dropped, events.next_seq.saturating_sub(1)),
    );
    let mut text = facts.text(paint);
    if !status.sidecores.is_empty() {
        text.push('\n');
        text.push_str(&sidecore::list(&status.sidecores, paint));
    }
    text
}
