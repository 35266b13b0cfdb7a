//! The daemon in short, for people.

use vfiomux_rpc::{SidecoreMode, Status};

use crate::table::{Cell, Facts, Paint, Table};
use crate::units;

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
        let mut table = Table::new(&["SIDECORE", "CPU", "IDLE", "BUSY", "CHANNELS"], &[0, 1, 3, 4]);
        for sidecore in &status.sidecores {
            let idle = match sidecore.mode {
                SidecoreMode::Poll => "polls",
                SidecoreMode::Adaptive => "spins, sleeps",
                SidecoreMode::Event => "sleeps",
            };
            table.row([
                Cell::from(sidecore.index.to_string()),
                Cell::optional(sidecore.cpu),
                Cell::from(idle),
                Cell::from(busy(sidecore.busy_permille)),
                Cell::from(sidecore.channels.to_string()),
            ]);
        }
        text.push('\n');
        text.push_str(&table.text(paint));
    }
    text
}

/// Thousandths as a percentage.
pub(crate) fn busy(permille: u32) -> String {
    format!("{}.{}%", permille / 10, permille % 10)
}
