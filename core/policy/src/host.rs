//! Running plugins outside the daemon.

mod backoff;
mod fault;
mod process;
mod spec;
mod state;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::backoff::Backoff;
pub use self::fault::HostFault;
use self::process::Process;
pub use self::spec::{Deadlines, PluginSpec};
pub use self::state::{PluginEvent, PluginEventKind, PluginState, PluginStatus, VerdictCounts};
use crate::wire::{
    AMENDMENTS_MAX, ATTACHMENT_BYTES_MAX, About, Asked, Call, LOG_LINES_MAX, QUESTION_BYTES_MAX, RETUNES_MAX,
    Reply, Told, VERSION, encode, phrase,
};
use crate::{
    Attach, Claim, Create, Destroy, Discover, Fault, Hook, Migrate, Policy, Pressure, Recorder, Retune,
    Session, Tick, Tune, Verdict, recorder,
};

/// Most events that wait to be taken.
const EVENTS_MAX: usize = 256;

/// A plugin, run by a process of its own and watched.
///
/// Each question has a deadline. A host that misses it, ends, answers what is no answer or speaks unasked is killed, the
/// question counts as unanswered (what then holds is [`Hook::fallback`]), and another host is started after a pause that doubles
/// with each failure. Nothing that a plugin does reaches further than that: it shares no memory with the daemon, and every
/// message of its has a greatest size.
#[derive(Debug)]
pub struct PluginHost {
    spec: PluginSpec,
    life: Life,
    backoff: Backoff,
    /// Number of the last question. Never used again, also by the next process.
    asked: u64,
    about: About,
    restarts: u64,
    last_fault: Option<HostFault>,
    verdicts: VerdictCounts,
    log_dropped: u64,
    events: VecDeque<PluginEvent>,
    missed: u64,
    recorder: Recorder,
}

#[derive(Debug)]
enum Life {
    Running(Process),
    Down,
    /// Not to be started again.
    Refused,
}

impl PluginHost {
    /// A plugin whose host has not been started. Until it is, by [`PluginHost::begin`] or with the first question or
    /// maintenance, its fallback holds: that is what a plugin is which the configuration names and which cannot begin.
    #[must_use]
    pub fn new(spec: PluginSpec) -> Self {
        Self {
            spec,
            life: Life::Down,
            backoff: Backoff::new(),
            asked: 0,
            about: About::default(),
            restarts: 0,
            last_fault: None,
            verdicts: VerdictCounts::default(),
            log_dropped: 0,
            events: VecDeque::new(),
            missed: 0,
            recorder: Recorder::default(),
        }
    }

    /// A plugin that cannot be used, for a reason that was found before its host was started.
    #[must_use]
    pub fn refused(spec: PluginSpec, why: impl Into<String>) -> Self {
        let mut refused = Self::new(spec);
        refused.faulted(HostFault::Refused { why: why.into() });
        refused
    }

    /// Starts the host, has it load the library, and waits until the plugin has begun.
    ///
    /// # Errors
    /// Why it has not. It stays as a plugin that is down.
    pub fn begin(&mut self) -> Result<(), HostFault> {
        let again = !self.about.plugin.is_empty() || self.last_fault.is_some();
        let begun = Process::spawn(&self.spec).and_then(|mut process| {
            let call = Call::Init {
                version: VERSION,
                name: self.spec.name.clone(),
                configuration: self.spec.configuration.clone(),
            };
            let (id, question) = self.question(call, &[]).map_err(|why| HostFault::Refused { why })?;
            let deadline = self.spec.deadlines.init;
            let (told, _) = process.exchange(id, &question, "the request to begin", deadline)?;
            match self.heard(told) {
                Reply::Ready(about) if about.version == VERSION => Ok((process, checked(about))),
                Reply::Ready(about) => Err(HostFault::Refused {
                    why: format!(
                        "{} speaks version {} and the daemon {VERSION}; install both from one build",
                        self.spec.host.display(),
                        about.version
                    ),
                }),
                Reply::Refused { why } => Err(HostFault::Refused { why: phrase(&why) }),
                _ => Err(HostFault::Garbage { what: "it did not say whether it has begun".to_owned() }),
            }
        });
        match begun {
            Ok((process, about)) => {
                self.restarts += u64::from(again);
                self.event(PluginEventKind::Started { pid: process.pid(), again });
                (self.life, self.about) = (Life::Running(process), about);
                self.backoff.started(Instant::now());
                Ok(())
            }
            Err(fault) => {
                self.faulted(fault.clone());
                Err(fault)
            }
        }
    }

    fn faulted(&mut self, fault: HostFault) {
        let restart_in = fault.is_passing().then(|| self.backoff.failed(Instant::now()));
        // The process is killed here, if there is one.
        self.life = if restart_in.is_some() { Life::Down } else { Life::Refused };
        self.last_fault = Some(fault.clone());
        self.event(PluginEventKind::Faulted { fault, restart_in });
    }

    fn event(&mut self, kind: PluginEventKind) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(PluginEvent { plugin: self.spec.name.clone(), kind });
        } else {
            self.missed += 1;
        }
    }

    /// A question as it goes over the socket.
    fn question(&mut self, call: Call, attachment: &[u8]) -> Result<(u64, Vec<u8>), String> {
        self.asked += 1;
        let id = self.asked;
        encode(&Asked { id, call }, attachment, QUESTION_BYTES_MAX)
            .map(|bytes| (id, bytes))
            .map_err(|error| error.to_string())
    }

    /// Takes the log out of an answer.
    fn heard(&mut self, told: Told) -> Reply {
        self.log_dropped = self.log_dropped.saturating_add(told.log_dropped);
        let surplus = told.log.len().saturating_sub(LOG_LINES_MAX);
        self.log_dropped = self.log_dropped.saturating_add(surplus as u64);
        for line in told.log.into_iter().take(LOG_LINES_MAX) {
            self.event(PluginEventKind::Log { level: line.level, line: phrase(&line.line) });
        }
        told.reply
    }

    /// Puts a question, starting the host when it is down and its pause is over.
    ///
    /// # Errors
    /// Why there is no answer, as a phrase.
    fn ask(
        &mut self,
        name: &'static str,
        deadline: Duration,
        call: impl FnOnce() -> Call,
        attachment: &[u8],
    ) -> Result<(Reply, Vec<u8>), String> {
        self.rise(Instant::now());
        if matches!(self.life, Life::Down | Life::Refused) {
            let fault = self.last_fault.as_ref().map(ToString::to_string);
            return Err(fault.unwrap_or_else(|| "it has not been started".to_owned()));
        }
        let (id, question) = self.question(call(), attachment)?;
        let Life::Running(process) = &mut self.life else { return Err("it is down".to_owned()) };
        match process.exchange(id, &question, name, deadline) {
            Ok((told, attachment)) => Ok((self.heard(told), attachment)),
            Err(fault) => {
                let why = fault.to_string();
                self.faulted(fault);
                Err(why)
            }
        }
    }

    /// Starts the host when it is down and its pause is over.
    fn rise(&mut self, now: Instant) {
        if matches!(self.life, Life::Down) && self.backoff.due().is_none_or(|due| due <= now) {
            // That it failed is an event, and the next pause is longer.
            let _ = self.begin();
        }
    }

    /// Whether there is any use in asking: a hook that the plugin does not have allows.
    fn lacks(&self, hook: Hook) -> bool {
        matches!(self.life, Life::Running(_)) && !self.about.hooks.contains(&hook)
    }

    fn verdict(&mut self, hook: Hook, call: impl Fn() -> Call) -> Verdict {
        self.recorder.note(|| recorder::asked(&call()));
        let verdict = self.verdict_of(hook, call);
        self.recorder.note(|| recorder::answered(&verdict));
        verdict
    }

    fn verdict_of(&mut self, hook: Hook, call: impl FnOnce() -> Call) -> Verdict {
        if self.lacks(hook) {
            return Verdict::Allow;
        }
        let verdict = match self.ask(hook.name(), self.spec.deadlines.of(hook), call, &[]) {
            Ok((Reply::Verdict(verdict), _)) => self.sane(verdict),
            Ok(_) => self.liar("it answered another kind of question"),
            Err(why) => Verdict::Unanswered { why },
        };
        self.count(&verdict);
        verdict
    }

    fn retunes(&mut self, hook: Hook, call: impl Fn() -> Call) -> Vec<Retune> {
        self.recorder.note(|| recorder::asked(&call()));
        let retunes = self.retunes_of(hook, call);
        self.recorder.note(|| recorder::retuned(&retunes));
        retunes.unwrap_or_default()
    }

    fn retunes_of(&mut self, hook: Hook, call: impl FnOnce() -> Call) -> Result<Vec<Retune>, String> {
        if self.lacks(hook) {
            return Ok(Vec::new());
        }
        match self.ask(hook.name(), self.spec.deadlines.of(hook), call, &[]) {
            Ok((Reply::Retunes(retunes), _)) => self.sane_retunes(retunes),
            Ok(_) => {
                self.count_unanswered();
                Err(self.caught("it answered another kind of question"))
            }
            Err(why) => {
                self.count_unanswered();
                Err(why)
            }
        }
    }

    fn fault_of(&mut self, call: impl FnOnce() -> Call) -> (Verdict, Result<Vec<Retune>, String>) {
        if self.lacks(Hook::Fault) {
            return (Verdict::Allow, Ok(Vec::new()));
        }
        let deadline = self.spec.deadlines.of(Hook::Fault);
        let (verdict, retunes) = match self.ask("fault", deadline, call, &[]) {
            Ok((Reply::Fault { verdict, retunes }, _)) => (self.sane(verdict), self.sane_retunes(retunes)),
            Ok(_) => (self.liar("it answered another kind of question"), Ok(Vec::new())),
            Err(why) => (Verdict::Unanswered { why }, Ok(Vec::new())),
        };
        self.count(&verdict);
        (verdict, retunes)
    }

    /// A verdict that keeps to the bounds; what does not is the end of the host.
    fn sane(&mut self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Deny { reason } => {
                let reason = phrase(&reason);
                Verdict::deny(if reason.is_empty() { "no reason given".to_owned() } else { reason })
            }
            Verdict::Amend(amendments) if amendments.len() > AMENDMENTS_MAX => {
                self.liar("it amended more settings than there are")
            }
            Verdict::Unanswered { .. } => self.liar("it answered that it does not answer"),
            other => other,
        }
    }

    fn sane_retunes(&mut self, retunes: Vec<Retune>) -> Result<Vec<Retune>, String> {
        let too_many = retunes.len() > RETUNES_MAX
            || retunes.iter().any(|retune| retune.amendments.len() > AMENDMENTS_MAX);
        if too_many {
            self.count_unanswered();
            return Err(self.caught("it wanted more retunes than there may be"));
        }
        self.verdicts.retunes = self.verdicts.retunes.saturating_add(retunes.len() as u64);
        Ok(retunes)
    }

    fn liar(&mut self, what: &str) -> Verdict {
        Verdict::Unanswered { why: self.caught(what) }
    }

    /// Ends a host that keeps to no bounds, and gives why there is no answer.
    fn caught(&mut self, what: &str) -> String {
        let fault = HostFault::Garbage { what: what.to_owned() };
        let why = fault.to_string();
        self.faulted(fault);
        why
    }

    fn count_unanswered(&mut self) {
        self.verdicts.unanswered = self.verdicts.unanswered.saturating_add(1);
    }

    fn count(&mut self, verdict: &Verdict) {
        let counter = match verdict {
            Verdict::Allow => &mut self.verdicts.allowed,
            Verdict::Deny { .. } => &mut self.verdicts.denied,
            Verdict::Amend(_) => &mut self.verdicts.amended,
            Verdict::Unanswered { .. } => &mut self.verdicts.unanswered,
        };
        *counter = counter.saturating_add(1);
    }
}

/// What a plugin says of itself, fit to be shown.
fn checked(about: About) -> About {
    About {
        plugin: phrase(&about.plugin),
        plugin_version: phrase(&about.plugin_version),
        sandbox: about.sandbox.iter().take(16).map(|layer| phrase(layer)).collect(),
        ..about
    }
}

impl Policy for PluginHost {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn discover(&mut self, question: &Discover) -> Verdict {
        self.verdict(Hook::Discover, || Call::Discover(question.clone()))
    }

    fn claim(&mut self, question: &Claim) -> Verdict {
        self.verdict(Hook::Claim, || Call::Claim(question.clone()))
    }

    fn create(&mut self, question: &Create) -> Verdict {
        self.verdict(Hook::Create, || Call::Create(question.clone()))
    }

    fn tune(&mut self, question: &Tune) -> Verdict {
        self.verdict(Hook::Tune, || Call::Tune(Box::new(question.clone())))
    }

    fn attach(&mut self, question: &Attach) -> Verdict {
        self.verdict(Hook::Attach, || Call::Attach(question.clone()))
    }

    fn session(&mut self, question: &Session) -> Verdict {
        self.verdict(Hook::Session, || Call::Session(question.clone()))
    }

    fn migrate(&mut self, question: &Migrate) -> Verdict {
        self.verdict(Hook::Migrate, || Call::Migrate(question.clone()))
    }

    fn destroy(&mut self, question: &Destroy) -> Verdict {
        self.verdict(Hook::Destroy, || Call::Destroy(question.clone()))
    }

    fn tick(&mut self, tick: &Tick) -> Vec<Retune> {
        self.retunes(Hook::Tick, || Call::Tick(tick.clone()))
    }

    fn pressure(&mut self, pressure: &Pressure) -> Vec<Retune> {
        self.retunes(Hook::Pressure, || Call::Pressure(pressure.clone()))
    }

    fn fault(&mut self, fault: &Fault) -> (Verdict, Vec<Retune>) {
        let call = || Call::Fault(fault.clone());
        self.recorder.note(|| recorder::asked(&call()));
        let (verdict, retunes) = self.fault_of(call);
        self.recorder.note(|| match &verdict {
            Verdict::Unanswered { .. } => recorder::answered(&verdict),
            _ => format!("{}, {}", recorder::answered(&verdict), recorder::retuned(&retunes)),
        });
        (verdict, retunes.unwrap_or_default())
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        if !self.about.saves {
            return None;
        }
        match self.ask("save", self.spec.deadlines.report, || Call::Save, &[]) {
            Ok((Reply::Done, state)) => Some(state).filter(|state| !state.is_empty()),
            // A plugin that has nothing to leave, or is about to be no more.
            _ => None,
        }
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        if !self.about.restores {
            return Err("it takes no state over".to_owned());
        }
        let state = state.get(..ATTACHMENT_BYTES_MAX).unwrap_or(state);
        let restored = match self.ask("restore", self.spec.deadlines.report, || Call::Restore, state) {
            Ok((Reply::Done, _)) => Ok(()),
            Ok((Reply::Refused { why }, _)) => Err(phrase(&why)),
            Ok(_) => {
                self.liar("it answered another kind of question");
                Err("it answered another kind of question".to_owned())
            }
            Err(why) => Err(why),
        };
        if let Err(why) = &restored {
            self.event(PluginEventKind::StateRefused { why: why.clone() });
        }
        restored
    }

    fn maintain(&mut self, now: Instant) {
        if let Life::Running(process) = &mut self.life
            && let Err(fault) = process.check_silent()
        {
            self.faulted(fault);
        }
        self.rise(now);
    }

    fn due(&self) -> Option<Instant> {
        match self.life {
            Life::Running(_) | Life::Refused => None,
            Life::Down => self.backoff.due(),
        }
    }

    fn take_events(&mut self) -> Vec<PluginEvent> {
        let mut events: Vec<_> = self.events.drain(..).collect();
        if self.missed > 0 {
            let kind = PluginEventKind::Missed { count: std::mem::take(&mut self.missed) };
            events.push(PluginEvent { plugin: self.spec.name.clone(), kind });
        }
        events
    }

    fn recorder(&mut self) -> Option<&mut Recorder> {
        Some(&mut self.recorder)
    }

    fn state(&self) -> Option<PluginState> {
        let (pid, status) = match &self.life {
            Life::Running(process) => (Some(process.pid()), PluginStatus::Running),
            Life::Refused => (None, PluginStatus::Refused),
            Life::Down => {
                let now = Instant::now();
                let restart_in =
                    self.backoff.due().map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
                (None, PluginStatus::Down { restart_in })
            }
        };
        Some(PluginState {
            name: self.spec.name.clone(),
            order: 0,
            library: self.spec.library.clone(),
            plugin: self.about.plugin.clone(),
            version: self.about.plugin_version.clone(),
            abi: self.about.abi,
            hooks: self.about.hooks.clone(),
            sandbox: self.about.sandbox.clone(),
            pid,
            status,
            restarts: self.restarts,
            last_fault: self.last_fault.clone(),
            verdicts: self.verdicts,
            log_dropped: self.log_dropped,
        })
    }

    fn end(self: Box<Self>) {
        if let Life::Running(process) = self.life {
            process.end();
        }
    }
}
