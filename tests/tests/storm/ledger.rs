//! What a client was answered, and what there must be because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::client::Answered;
use crate::draft::Act;

/// A fault of the daemon's own, which nothing that anybody asks for may bring about.
const INTERNAL: i64 = -32603;

/// What of a channel nobody but its client changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    id: String,
    device: Value,
    size_bytes: u64,
    share: Value,
    labels: Value,
    admin: Value,
    attached: bool,
}

impl Known {
    fn of(info: &Value) -> Self {
        Self {
            id: info["id"].as_str().expect("every channel has one").to_owned(),
            device: info["device"].clone(),
            size_bytes: info["size_bytes"].as_u64().expect("every channel has one"),
            share: info["guarantees"]["share"].clone(),
            labels: info["labels"].clone(),
            admin: info["admin"].clone(),
            attached: !info["endpoint"].is_null(),
        }
    }

    /// This, with what an act may have done to it taken from another.
    fn but_for(&self, act: &Act, other: &Self) -> Self {
        let (mut known, other) = (self.clone(), other.clone());
        match act {
            Act::Tune { .. } => known.share = other.share,
            Act::Resize { .. } => known.size_bytes = other.size_bytes,
            Act::Label { .. } => known.labels = other.labels,
            Act::Move { .. } => known.device = other.device,
            Act::Attach { .. } | Act::Detach { .. } => known.attached = other.attached,
            Act::Suspend { .. } | Act::Resume { .. } => known.admin = other.admin,
            // Of many steps, any may have been taken; but it is the same channel.
            Act::Apply { .. } => known = Self { id: known.id, ..other },
            Act::Create { .. } | Act::Destroy { .. } | Act::Replace { .. } => {}
        }
        known
    }
}

/// What one client knows.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    client: u64,
    /// Its own channels that there are.
    known: BTreeMap<String, Known>,
    /// What it asked for and was not answered, by channel.
    open: BTreeMap<String, Act>,
    /// The generations that it was last told, by identity.
    generations: BTreeMap<String, u64>,
    /// Identities of channels that it was told are gone.
    gone: BTreeSet<String>,
    plugin: PathBuf,
    /// What the plugin may have been told instead.
    plugin_open: Option<&'static str>,
}

impl Ledger {
    pub(crate) fn new(client: u64) -> Self {
        Self { client, ..Self::default() }
    }

    pub(crate) fn plugin_is(&mut self, orders: &Path) {
        orders.clone_into(&mut self.plugin);
    }

    fn owns(&self, name: &str) -> bool {
        name.starts_with(&format!("c{}-", self.client))
    }

    /// Names of its own channels that there are, or may be.
    pub(crate) fn own_channels(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.known.keys().chain(self.open.keys()).collect();
        names.into_iter().cloned().collect()
    }

    /// It is about to ask.
    pub(crate) fn asked(&mut self, act: &Act) {
        match act {
            Act::Replace { orders } => self.plugin_open = Some(orders),
            _ => {
                if let Some(name) = act.channel().filter(|name| self.owns(name)) {
                    self.open.insert(name.to_owned(), act.clone());
                }
            }
        }
    }

    /// It was answered.
    pub(crate) fn answered(&mut self, act: &Act, answered: &Answered) {
        if let Act::Replace { orders } = act {
            self.plugin_open = None;
            if answered.is_ok() {
                self.plugin = self.plugin.with_file_name(orders);
            }
            return;
        }
        match answered {
            Ok(info) => self.note_generation(info, matches!(act, Act::Destroy { .. })),
            Err(error) => assert_ne!(error["code"], INTERNAL, "{act:?}: {error:#}"),
        }
        let Some(name) = act.channel().filter(|name| self.owns(name)) else { return };
        self.open.remove(name);
        match (answered, act) {
            (Ok(_), Act::Destroy { .. }) => _ = self.known.remove(name),
            (Ok(info), _) => _ = self.known.insert(name.to_owned(), Known::of(info)),
            // A refusal changes nothing.
            (Err(_), _) => {}
        }
    }

    /// Generations only go up, and who is gone does not come back.
    fn note_generation(&mut self, info: &Value, is_gone: bool) {
        let (id, generation) = (info["id"].as_str().expect("an id"), info["generation"].as_u64());
        assert!(!self.gone.contains(id), "{id} was destroyed, and is here: {info:#}");
        let generation = generation.expect("a generation");
        let before = self.generations.insert(id.to_owned(), generation).unwrap_or(0);
        assert!(generation >= before, "{id} had generation {before}, and has {generation}");
        if is_gone {
            self.gone.insert(id.to_owned());
        }
    }

    /// One of its channels was looked at: it is as it was answered, but for what is open. With an act: as that had it.
    pub(crate) fn seen(&mut self, name: &str, shown: &Answered, done: Option<&Act>) {
        let open = self.open.remove(name);
        let before = self.known.remove(name);
        let Ok(info) = shown else {
            let ended = matches!(open, Some(Act::Destroy { .. }));
            assert!(
                before.is_none() || ended,
                "{name} is gone, and was answered as {before:?}; open: {open:?}"
            );
            return;
        };
        self.note_generation(info, false);
        let now = Known::of(info);
        match (before, &open) {
            (Some(before), None) => assert_eq!(now, before, "{name} is not as it was answered"),
            (Some(before), Some(act)) => {
                assert_eq!(
                    now,
                    before.but_for(act, &now),
                    "{name} is not as it was answered, nor as {act:?}"
                );
            }
            (None, Some(Act::Create { mib, device, .. })) => {
                assert_eq!(
                    (now.size_bytes, now.device.as_str()),
                    (mib << 20, Some(device.as_str())),
                    "{name}"
                );
            }
            (None, Some(Act::Apply { .. })) => {}
            (None, open) => panic!("nobody has made {name}, and it is here: {info:#}; open: {open:?}"),
        }
        if let Some(Act::Apply { mib, .. }) = done {
            assert_eq!(now.size_bytes, mib << 20, "{name} was applied");
        }
        self.known.insert(name.to_owned(), now);
    }

    /// The plugin was looked at.
    pub(crate) fn check_plugin(&mut self, plugin: &Value) {
        let config = Path::new(plugin["config"].as_str().expect("it was given one"));
        let open = self.plugin_open.take().map(|orders| self.plugin.with_file_name(orders));
        assert!(
            config == self.plugin || Some(config) == open.as_deref(),
            "the plugin goes by {}, and was answered to go by {}; open: {open:?}",
            config.display(),
            self.plugin.display()
        );
        self.plugin = config.to_owned();
    }
}
