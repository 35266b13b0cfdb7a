//! What a start makes of the labels of a device, and of the journal.
//!
//! A label says which channels there are and where their blocks lie; the journal says what they were set to and what was being done
//! to them. Where the two differ, a crash came between two stages of a [`crate::procedure`], and what is found here says how it goes
//! on (T3). Devices come one at a time, and one may never come back: each is judged by its own labels and the journal.

use crate::journal::{Setting, Settings};
use crate::label::{Label, LabelledChannel};
use crate::lifecycle::{Admin, Oper, after_restart};

/// What is found on a device, by the place of each label in the list that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Channels that have their place here.
    pub present: Vec<(usize, LabelledChannel)>,
    /// Channels that have their place elsewhere: what is here of them is to be scrubbed.
    pub stale: Vec<(usize, LabelledChannel)>,
    /// Pools, with channels that have their place elsewhere and that these do not name any more: the journal may forget it.
    pub cleared: Vec<(String, String)>,
    /// Channels of these pools that no label names: their creation never got that far, or their end did.
    pub unnamed: Vec<String>,
}

/// Looks through all labels of a device.
#[must_use]
pub fn find(journal: &Settings, labels: &[&Label]) -> Findings {
    let mut findings = Findings::default();
    for (at, label) in labels.iter().enumerate() {
        for entry in &label.channels {
            let stale = journal.elsewhere.contains(&(label.pool.clone(), entry.id.clone()));
            let list = if stale { &mut findings.stale } else { &mut findings.present };
            list.push((at, entry.clone()));
        }
    }
    let label_of = |pool: &str| labels.iter().find(|label| label.pool == pool);
    let names = |label: &Label, id: &str| label.channels.iter().any(|entry| entry.id == id);
    let elsewhere = journal.elsewhere.iter();
    let cleared = elsewhere.filter(|(pool, id)| label_of(pool).is_some_and(|label| !names(label, id)));
    findings.cleared = cleared.cloned().collect();
    let here = journal.channels.values().filter(|setting| label_of(&setting.pool).is_some());
    let unnamed = here.filter(|setting| findings.present.iter().all(|(_, entry)| entry.id != setting.id));
    findings.unnamed = unnamed.map(|setting| setting.id.clone()).collect();
    findings
}

/// The setting of a channel that a pool's label names, from what the journal has of it, if anything.
#[must_use]
pub fn restored(known: Option<Setting>, pool: &str, entry: &LabelledChannel) -> Setting {
    let was = known.as_ref().map(|setting| setting.oper);
    let setting = known.unwrap_or_else(|| Setting {
        id: entry.id.clone(),
        name: entry.name.clone(),
        tenant: entry.tenant.clone(),
        pool: pool.to_owned(),
        size_bytes: entry.size_bytes,
        queues: entry.queues,
        read_only: entry.read_only,
        // The label does not have them: they are the host's promise, not the device's content.
        guarantees: vfiomux_rpc::Guarantees::default(),
        labels: vfiomux_rpc::Labels::default(),
        serial: None,
        endpoint: None,
        admin: Admin::Enabled,
        oper: Oper::Provisioned,
        generation: 1,
    });
    // The label is the truth about what is on the device.
    Setting { size_bytes: entry.size_bytes, pool: pool.to_owned(), oper: after_restart(was), ..setting }
}
