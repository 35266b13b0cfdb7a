//! Plugins: loaded, replaced, unloaded, and how they fare.
//!
//! ```text
//!   plugin.load ────► starter thread: start a host, have it begin ─► journal ─► policy thread: into the chain
//!   plugin.replace ─► starter thread: the same ─► policy thread: compare ─► journal ─► policy thread: switch
//!   plugin.unload ──────────────────────────────────────────────────────► journal ─► policy thread: out of the chain
//! ```
//!
//! The journal comes before the effect. A crash between the two is over at the next start, which goes by the journal: a
//! successor that was on record and never got to answer has the place then. It had begun, it had answered about every channel, and
//! whoever asked for it was told nothing yet. While a replacement is written down the policy thread waits for the control thread,
//! which never waits for it.
//!
//! A host is started and made to begin on a thread of its own, so that nobody's question waits for that. What an operator
//! loads is journalled and loaded again at every start; what the configuration file names is loaded at every start anyway.
//! A plugin that cannot begin at a start stays in the chain as one that does not answer: new channels are denied with the
//! reason, and what exists goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use vfiomux_policy::wire::LogLevel;
use vfiomux_policy::{
    Chain, ChainError, Create, PluginEvent, PluginEventKind, PluginHost, PluginSpec, PluginState,
    PluginStatus, Policy, Replaced, StateOffer,
};
use vfiomux_rpc::{
    Caller, Change, ErrorCode, EventKind, ObjectKind, Outcome, PluginDifference, PluginInfo, PluginOrigin,
    PluginRecording, PluginReplacement, PluginVerdicts, RpcError, Ticket, call,
};

use super::Control;
use super::channel::internal;
use super::question::policy_channel;
use super::worker::Idle;
use crate::config::{Config, Plugin};
use crate::event::event;
use crate::journal::{Journal, Record};

/// The thread that starts hosts. A host dies with the thread that started it, so this one lives as long as the daemon.
pub(crate) struct Starter;

impl Idle for Starter {
    const EVERY: Option<Duration> = None;
}

/// A plugin, as the control thread knows it.
pub(crate) struct Loaded {
    pub(crate) setting: Plugin,
    pub(crate) origin: PluginOrigin,
    /// The one operation under way, if any, as a phrase.
    operation: Option<&'static str>,
}

/// Where plugins live.
#[derive(Debug, Clone)]
pub(crate) struct Housing {
    /// The program that runs one; when it is empty, the one that lies beside the daemon.
    host: PathBuf,
    /// The processors that no sidecore is pinned to; empty for any.
    cpus: Vec<usize>,
}

impl Housing {
    pub(crate) fn new(config: &Config) -> Self {
        let there_are = std::thread::available_parallelism().map_or(1, usize::from);
        let taken: Vec<usize> =
            config.sidecores.cpus.iter().filter_map(|pinned| usize::try_from(pinned.cpu).ok()).collect();
        let cpus = if taken.is_empty() {
            Vec::new()
        } else {
            (0..there_are).filter(|cpu| !taken.contains(cpu)).collect()
        };
        Self { host: config.plugin_host.clone(), cpus }
    }

    /// How a plugin is run. Reads its configuration.
    fn spec(&self, plugin: &Plugin) -> Result<PluginSpec, String> {
        let mut spec = PluginSpec::new(&plugin.name, &plugin.library);
        if !self.host.as_os_str().is_empty() {
            spec.host.clone_from(&self.host);
        }
        spec.cpus.clone_from(&self.cpus);
        spec.deadlines = plugin.deadlines();
        if let Some(path) = &plugin.config {
            spec.configuration = std::fs::read_to_string(path)
                .map_err(|error| format!("its configuration {}: {error}", path.display()))?;
        }
        Ok(spec)
    }

    /// A plugin that has begun, or why it cannot.
    fn begin(&self, plugin: &Plugin) -> Result<Box<PluginHost>, String> {
        let mut host = Box::new(PluginHost::new(self.spec(plugin)?));
        match host.begin() {
            Ok(()) => Ok(host),
            Err(fault) => Err(fault.to_string()),
        }
    }

    /// Puts into a chain what is loaded at a start. What cannot begin does not answer.
    pub(crate) fn load(&self, chain: &mut Chain, plugin: &Plugin) {
        let host = match self.spec(plugin) {
            Ok(spec) => {
                let mut host = PluginHost::new(spec);
                // Why it has not begun is an event, and it is tried again where that may help.
                let _ = host.begin();
                host
            }
            Err(why) => PluginHost::refused(PluginSpec::new(&plugin.name, &plugin.library), why),
        };
        // The names of a configuration and of a journal are told apart before.
        let _ = chain.load(plugin.order, Box::new(host));
    }
}

impl Control {
    /// `plugin.list`.
    pub(crate) fn plugin_list(&mut self, ticket: Ticket) {
        self.policies.run(
            |chain| chain.states(),
            move |control, states| {
                let list: Vec<PluginInfo> =
                    states.iter().filter_map(|state| control.plugin_info(state)).collect();
                control.rpc.reply(ticket, Ok(list.into()));
            },
        );
    }

    /// `plugin.show`.
    pub(crate) fn plugin_show(&mut self, ticket: Ticket, name: &str) {
        match self.plugin_named(name) {
            Ok(_) => self.answer_plugin(ticket, name.to_owned()),
            Err(error) => self.rpc.reply(ticket, Err(error)),
        }
    }

    /// `plugin.record`.
    pub(crate) fn plugin_record(&mut self, ticket: Ticket, wanted: call::PluginRecord) {
        let call::PluginRecord { name, since } = wanted;
        if let Err(error) = self.plugin_named(&name) {
            return self.rpc.reply(ticket, Err(error));
        }
        let about = name.clone();
        self.policies.run(
            move |chain| chain.recording(&name, since, Instant::now()),
            move |control, noted| {
                let answer = noted.map_err(|error| refused(&about, &error)).map(|noted| PluginRecording {
                    lines: noted.lines,
                    missed: noted.missed,
                    last_line: noted.last,
                });
                control.rpc.reply(ticket, answer.map(Outcome::from));
            },
        );
    }

    fn answer_plugin(&mut self, ticket: Ticket, name: String) {
        self.policies.run(
            |chain| chain.states(),
            move |control, states| {
                let answer = control.plugin_among(&states, &name).map(Outcome::from);
                control.rpc.reply(ticket, answer);
            },
        );
    }

    /// `plugin.load`.
    pub(crate) fn plugin_load(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: &Change,
        wanted: call::PluginLoad,
    ) {
        let call::PluginLoad { name, library, config, order, deadline_ms } = wanted;
        let plugin = Plugin { name, library, config, order, deadline_ms };
        if let Err(error) = self.check_loadable(&plugin) {
            return self.rpc.reply(ticket, Err(error));
        }
        let (dry_run, housing, starting) = (change.dry_run, self.housing.clone(), plugin.clone());
        if !dry_run {
            let loading = Loaded {
                setting: plugin.clone(),
                origin: PluginOrigin::Operator,
                operation: Some("being loaded"),
            };
            self.plugins.insert(plugin.name.clone(), loading);
        }
        self.starter.run(
            move |_| {
                let host = housing.begin(&starting)?;
                let state = host.state();
                if dry_run {
                    host.end();
                    return Ok((state, None));
                }
                Ok((state, Some(host)))
            },
            move |control, begun: Result<_, String>| match begun {
                Ok((_, Some(host))) => control.plugin_begun(ticket, caller, plugin, host),
                Ok((state, None)) => {
                    let info = state
                        .map(|state| info(&state, &plugin, PluginOrigin::Operator))
                        .ok_or_else(|| internal(&"the plugin has no state"));
                    control.rpc.reply(ticket, info.map(Outcome::from));
                }
                Err(why) => {
                    if !dry_run {
                        control.plugins.remove(&plugin.name);
                    }
                    control.rpc.reply(ticket, Err(cannot_begin(&plugin, &why)));
                }
            },
        );
    }

    fn check_loadable(&self, plugin: &Plugin) -> Result<(), RpcError> {
        if let Some(complaint) = plugin.complaint() {
            return Err(
                RpcError::invalid_argument("plugin", complaint).next("see vfiomuxctl plugin load --help")
            );
        }
        if self.plugins.contains_key(&plugin.name) || plugin.name == BUILT_IN {
            return Err(RpcError::new(ErrorCode::Exists, format!("there is a plugin {}", plugin.name))
                .about(format!("plugin {}", plugin.name))
                .next(
                    "choose another name, or put it into that one's place with vfiomuxctl plugin replace",
                ));
        }
        Ok(())
    }

    /// It answers: from now on it is asked.
    fn plugin_begun(&mut self, ticket: Ticket, caller: Caller, plugin: Plugin, host: Box<PluginHost>) {
        if let Err(error) = self.journal.append(&Record::PluginLoaded(plugin.clone())) {
            self.plugins.remove(&plugin.name);
            return self.rpc.reply(ticket, Err(internal(&error)));
        }
        let order = plugin.order;
        self.policies.run(
            move |chain| (chain.load(order, host), chain.take_events()),
            move |control, (loaded, events)| {
                let name = plugin.name;
                control.plugin_events(events);
                control.set_plugin_operation(&name, None);
                if let Err(error) = loaded {
                    control.forget_plugin(&name);
                    return control.rpc.reply(ticket, Err(refused(&name, &error)));
                }
                let library = plugin.library.display().to_string();
                control.tell_plugin(&name, "loaded", Some(library), Some(caller.uid));
                control.answer_plugin(ticket, name);
            },
        );
    }

    /// `plugin.unload`.
    pub(crate) fn plugin_unload(&mut self, ticket: Ticket, caller: Caller, change: &Change, name: &str) {
        let name = name.to_owned();
        if let Err(error) = self.plugin_free(&name) {
            return self.rpc.reply(ticket, Err(error));
        }
        if change.dry_run {
            return self.answer_plugin(ticket, name);
        }
        let appended = self.journal.append(&Record::PluginUnloaded { name: name.clone() });
        if let Err(error) = appended {
            return self.rpc.reply(ticket, Err(internal(&error)));
        }
        self.set_plugin_operation(&name, Some("being unloaded"));
        let leaving = name.clone();
        self.policies.run(
            move |chain| {
                let states = chain.states();
                (states, chain.unload(&leaving), chain.take_events())
            },
            move |control, (states, unloaded, events)| {
                control.plugin_events(events);
                let answer = unloaded
                    .map_err(|error| refused(&name, &error))
                    .and_then(|()| control.plugin_among(&states, &name));
                control.plugins.remove(&name);
                control.tell_plugin(&name, "unloaded", None, Some(caller.uid));
                control.rpc.reply(ticket, answer.map(Outcome::from));
            },
        );
    }

    /// `plugin.replace`.
    pub(crate) fn plugin_replace(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: &Change,
        wanted: call::PluginReplace,
    ) {
        let present = match self.plugin_free(&wanted.name) {
            Ok(present) => present.setting.clone(),
            Err(error) => return self.rpc.reply(ticket, Err(error)),
        };
        let successor = Plugin {
            library: wanted.library.unwrap_or(present.library),
            config: wanted.config.or(present.config),
            deadline_ms: wanted.deadline_ms.or(present.deadline_ms),
            ..present
        };
        if let Some(complaint) = successor.complaint() {
            let error = RpcError::invalid_argument("plugin", complaint);
            return self.rpc.reply(ticket, Err(error.next("see vfiomuxctl plugin replace --help")));
        }
        self.set_plugin_operation(&successor.name, Some("being replaced"));
        let (dry_run, housing, starting) = (change.dry_run, self.housing.clone(), successor.clone());
        self.starter.run(
            move |_| housing.begin(&starting),
            move |control, begun| match begun {
                Ok(host) => control.plugin_switch(ticket, caller, successor, host, dry_run),
                Err(why) => {
                    control.set_plugin_operation(&successor.name, None);
                    control.rpc.reply(ticket, Err(cannot_begin(&successor, &why)));
                }
            },
        );
    }

    /// The successor answers: it is asked about every channel, and takes the place unless this is a dry run.
    fn plugin_switch(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        successor: Plugin,
        host: Box<PluginHost>,
        dry_run: bool,
    ) {
        let channels = self.channels_as_asked();
        let (name, state) = (successor.name.clone(), host.state());
        let record = self.replacement_record(&successor);
        self.policies.run(
            move |chain| {
                let replaced = chain.replace(&name, host, &channels, dry_run, record);
                (replaced, chain.states(), chain.take_events())
            },
            move |control, (replaced, states, events)| {
                let name = successor.name.clone();
                control.plugin_events(events);
                control.set_plugin_operation(&name, None);
                let replaced = match replaced {
                    Ok(replaced) => replaced,
                    Err(error) => return control.rpc.reply(ticket, Err(refused(&name, &error))),
                };
                let origin = control.plugins.get(&name).map_or(PluginOrigin::Operator, |known| known.origin);
                let plugin = if dry_run {
                    state.map(|state| info(&state, &successor, origin)).ok_or_else(|| internal(&"no state"))
                } else {
                    control.plugin_replaced(&successor, &replaced, caller);
                    control.plugin_among(&states, &name)
                };
                let answer = plugin.map(|plugin| replacement(plugin, replaced));
                control.rpc.reply(ticket, answer.map(Outcome::from));
            },
        );
    }

    /// What puts a plugin on record that is about to take a place, from the policy thread, which waits until that is done.
    fn replacement_record(&self, successor: &Plugin) -> impl FnOnce() -> Result<(), String> + Send + use<> {
        let (poster, successor) = (self.poster.clone(), successor.clone());
        move || {
            let (say, hear) = mpsc::channel();
            poster.post(move |control| {
                // The policy thread waits for it.
                let _ = say.send(control.record_replacement(successor));
            });
            hear.recv().unwrap_or_else(|_| Err("the daemon is ending".to_owned()))
        }
    }

    fn record_replacement(&mut self, successor: Plugin) -> Result<(), String> {
        let known = self.plugins.get(&successor.name);
        // What the configuration file names is as the file says when the daemon starts again.
        if known.is_some_and(|known| known.origin == PluginOrigin::Configuration) {
            return Ok(());
        }
        self.journal.append(&Record::PluginLoaded(successor)).map_err(|error| error.to_string())
    }

    fn plugin_replaced(&mut self, successor: &Plugin, replaced: &Replaced, caller: Caller) {
        let name = &successor.name;
        if let Some(known) = self.plugins.get_mut(name) {
            known.setting = successor.clone();
        }
        let reason = format!(
            "{}; it differs on {} of {} channels; {}",
            successor.library.display(),
            replaced.differences.len(),
            replaced.channels,
            state_offered(&replaced.state)
        );
        self.tell_plugin(name, "replaced", Some(reason), Some(caller.uid));
    }

    /// Every channel, as the question that its coming to be would be.
    fn channels_as_asked(&self) -> Vec<Create> {
        let asked = |channel: &super::channel::Channel| Create {
            channel: policy_channel(channel),
            device: self.policy_device(&channel.device),
            tenant: self.policy_tenant(&channel.setting.tenant, Some(&channel.setting.id)),
            caller_uid: 0,
            dry_run: true,
        };
        self.channels.values().map(asked).collect()
    }

    /// Tells what happened to plugins.
    pub(crate) fn plugin_events(&mut self, events: Vec<PluginEvent>) {
        for PluginEvent { plugin, kind } in events {
            match kind {
                PluginEventKind::Started { pid, again } => {
                    let reason = if again { "started again, as" } else { "started, as" };
                    self.tell_plugin(&plugin, "running", Some(format!("{reason} process {pid}")), None);
                }
                PluginEventKind::Faulted { fault, restart_in } => {
                    let (to, next) = match restart_in {
                        Some(left) => ("down", format!("started again in {} ms", left.as_millis())),
                        None => ("refused", "not started again; see vfiomuxctl plugin replace".to_owned()),
                    };
                    self.tell_plugin(&plugin, to, Some(format!("{fault}; {next}")), None);
                }
                PluginEventKind::StateRefused { why } => {
                    self.tell_plugin(
                        &plugin,
                        "running",
                        Some(format!("without the state offered: {why}")),
                        None,
                    );
                }
                PluginEventKind::Log { level, line } => log(&plugin, level, &line),
                PluginEventKind::Missed { count } => {
                    tracing::warn!(plugin, count, "more happened to a plugin than is kept");
                }
                _ => {}
            }
        }
    }

    fn tell_plugin(&mut self, name: &str, to: &str, reason: Option<String>, uid: Option<u32>) {
        let mut told = event(EventKind::Plugin, ObjectKind::Plugin, name);
        (told.to, told.reason, told.uid) = (Some(to.to_owned()), reason, uid);
        self.tell(told);
    }

    /// A plugin that did not come to be asked after all.
    fn forget_plugin(&mut self, name: &str) {
        self.plugins.remove(name);
        self.journal_append(&Record::PluginUnloaded { name: name.to_owned() });
    }

    fn plugin_named(&self, name: &str) -> Result<&Loaded, RpcError> {
        self.plugins.get(name).ok_or_else(|| {
            RpcError::not_found(format!("plugin {name}"), "see the names with vfiomuxctl plugin list")
        })
    }

    /// The plugin, when no operation is under way on it.
    fn plugin_free(&self, name: &str) -> Result<&Loaded, RpcError> {
        let plugin = self.plugin_named(name)?;
        match plugin.operation {
            None => Ok(plugin),
            Some(operation) => Err(RpcError::new(ErrorCode::Busy, format!("plugin {name} is {operation}"))
                .about(format!("plugin {name}"))
                .next("try again when it is done; see vfiomuxctl plugin show")),
        }
    }

    fn set_plugin_operation(&mut self, name: &str, operation: Option<&'static str>) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            plugin.operation = operation;
        }
    }

    fn plugin_among(&self, states: &[PluginState], name: &str) -> Result<PluginInfo, RpcError> {
        let found = states.iter().find(|state| state.name == name);
        found.and_then(|state| self.plugin_info(state)).ok_or_else(|| {
            RpcError::not_found(format!("plugin {name}"), "see the names with vfiomuxctl plugin list")
        })
    }

    fn plugin_info(&self, state: &PluginState) -> Option<PluginInfo> {
        let known = self.plugins.get(&state.name)?;
        Some(info(state, &known.setting, known.origin))
    }
}

impl Loaded {
    pub(crate) fn new(setting: Plugin, origin: PluginOrigin) -> Self {
        Self { setting, origin, operation: None }
    }
}

/// What is loaded at a start: what the configuration names, then what operators loaded under other names.
pub(crate) fn at_start(config: &Config, journal: &Journal) -> BTreeMap<String, Loaded> {
    let mut plugins = BTreeMap::new();
    for plugin in &config.plugins {
        plugins.insert(plugin.name.clone(), Loaded::new(plugin.clone(), PluginOrigin::Configuration));
    }
    for (name, plugin) in &journal.settings().plugins {
        plugins.entry(name.clone()).or_insert_with(|| Loaded::new(plugin.clone(), PluginOrigin::Operator));
    }
    plugins
}

/// Name of the policy that always holds.
const BUILT_IN: &str = "default";

fn info(state: &PluginState, setting: &Plugin, origin: PluginOrigin) -> PluginInfo {
    let (status, restart_in) = match state.status {
        PluginStatus::Running => (vfiomux_rpc::PluginStatus::Running, None),
        PluginStatus::Down { restart_in } => (vfiomux_rpc::PluginStatus::Down, Some(restart_in)),
        PluginStatus::Refused => (vfiomux_rpc::PluginStatus::Refused, None),
    };
    let abi = match state.abi {
        (0, 0) => String::new(),
        (major, minor) => format!("{major}.{minor}"),
    };
    PluginInfo {
        name: state.name.clone(),
        library: setting.library.clone(),
        config: setting.config.clone(),
        order: setting.order,
        deadline_ms: u64::try_from(setting.deadlines().verdict.as_millis()).unwrap_or(u64::MAX),
        origin,
        status,
        restart_in_ms: restart_in.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        pid: state.pid,
        plugin: state.plugin.clone(),
        version: state.version.clone(),
        abi,
        hooks: state.hooks.iter().map(|hook| hook.name().to_owned()).collect(),
        sandbox: state.sandbox.clone(),
        restarts: state.restarts,
        last_fault: state.last_fault.as_ref().map(ToString::to_string),
        verdicts: PluginVerdicts {
            allowed: state.verdicts.allowed,
            denied: state.verdicts.denied,
            amended: state.verdicts.amended,
            unanswered: state.verdicts.unanswered,
            retunes: state.verdicts.retunes,
        },
        log_dropped: state.log_dropped,
    }
}

fn replacement(plugin: PluginInfo, replaced: Replaced) -> PluginReplacement {
    let difference = |found: vfiomux_policy::Difference| PluginDifference {
        channel: found.channel,
        before: found.before.to_string(),
        after: found.after.to_string(),
    };
    PluginReplacement {
        plugin,
        channels: u32::try_from(replaced.channels).unwrap_or(u32::MAX),
        differences: replaced.differences.into_iter().map(difference).collect(),
        state: state_offered(&replaced.state),
    }
}

fn state_offered(state: &StateOffer) -> String {
    match state {
        StateOffer::None => "there was no state to hand over".to_owned(),
        StateOffer::Taken { bytes } => format!("{bytes} bytes of state were handed over"),
        StateOffer::Refused { why } => format!("the state offered was not taken: {why}"),
    }
}

fn cannot_begin(plugin: &Plugin, why: &str) -> RpcError {
    RpcError::invalid_argument("library", format!("plugin {} {why}", plugin.name))
        .about(format!("plugin {}", plugin.name))
        .next("see that the library is a plugin for this daemon, and that its configuration is good")
}

fn refused(name: &str, error: &ChainError) -> RpcError {
    if let ChainError::Unrecorded { .. } = error {
        return internal(error);
    }
    RpcError::new(ErrorCode::Conflict, error.to_string())
        .about(format!("plugin {name}"))
        .next("see vfiomuxctl plugin list")
}

fn log(plugin: &str, level: LogLevel, line: &str) {
    match level {
        LogLevel::Error => tracing::error!(plugin, "{line}"),
        LogLevel::Warn => tracing::warn!(plugin, "{line}"),
        LogLevel::Info => tracing::info!(plugin, "{line}"),
        _ => tracing::debug!(plugin, "{line}"),
    }
}
