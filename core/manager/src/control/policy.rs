//! Asking policies, on a thread of their own.
//!
//! ```text
//!   operation: check ─► question ─► policy thread: Chain ─► ruling ─► check again ─► act
//!                          └── of generation n ─────────────────────── still n? (P1)
//! ```
//!
//! A policy may be a plugin that takes its time, and the control thread waits for nobody. Nor does a channel: while its
//! policies are being asked, other operations may change it. So a verdict holds for the generation it was asked about and
//! no other, and after it has come an operation makes all its checks again.

use std::time::{Duration, Instant};

use vfiomux_policy::{Answer, Chain, Denial, Fault, FaultKind, Question, Ruling, Session, Verdict};
use vfiomux_rpc::{Caller, ErrorCode, EventKind, ObjectKind, RpcError};

use super::Control;
use super::channel::internal;
use super::question::policy_channel;
use super::worker::{Idle, Poster};
use crate::event::event;
use crate::lifecycle::verdict_holds;
use crate::seeded::{self, Bug};

impl Idle for Chain {
    const EVERY: Option<Duration> = Some(Duration::from_millis(100));

    /// Looks after plugins, and tells what happened to them.
    fn idle(&mut self, poster: &Poster) {
        let now = Instant::now();
        if self.maintenance_in(now).is_none() {
            return;
        }
        self.maintain(now);
        let events = self.take_events();
        if !events.is_empty() {
            poster.post(|control| control.plugin_events(events));
        }
    }
}

impl Control {
    /// Asks all policies about a channel that is there, then goes on with the question in the form that they allow.
    ///
    /// # Errors
    /// `next` is given a denial, or a conflict when the channel has changed since it was asked about (P1).
    pub(crate) fn ask_about<Q: Question>(
        &mut self,
        id: &str,
        caller: Caller,
        question: Q,
        next: impl FnOnce(&mut Control, Result<Q, RpcError>) + Send + 'static,
    ) {
        self.ask_for(id, Some(caller), question, next);
    }

    /// The same for a user, or for a plugin that asks for something of its own.
    pub(crate) fn ask_for<Q: Question>(
        &mut self,
        id: &str,
        caller: Option<Caller>,
        question: Q,
        next: impl FnOnce(&mut Control, Result<Q, RpcError>) + Send + 'static,
    ) {
        self.ask_heard(id, caller, question, move |control, allowed, _| next(control, allowed));
    }

    /// The same, and goes on with what each policy answered too.
    pub(crate) fn ask_heard<Q: Question>(
        &mut self,
        id: &str,
        caller: Option<Caller>,
        question: Q,
        next: impl FnOnce(&mut Control, Result<Q, RpcError>, Vec<Answer>) + Send + 'static,
    ) {
        let Some(channel) = self.channels.get(id) else {
            return next(self, Err(internal(&"the channel is gone")), Vec::new());
        };
        let (id, name) = (id.to_owned(), channel.setting.name.clone());
        self.put(question, move |control, ruling| {
            let answers = ruling.answers.clone();
            let allowed = control
                .check_unchanged(&id, &name, ruling.generation)
                .and_then(|()| control.allowed(ObjectKind::Channel, &name, caller, ruling));
            next(control, allowed, answers);
        });
    }

    /// Asks all policies about a channel that is to come to be, then goes on with the question in the form that they allow.
    pub(crate) fn ask_new<Q: Question>(
        &mut self,
        name: &str,
        caller: Caller,
        question: Q,
        next: impl FnOnce(&mut Control, Result<Q, RpcError>) + Send + 'static,
    ) {
        self.ask_of(ObjectKind::Channel, name, Some(caller), question, next);
    }

    /// Asks all policies about anything that has no generation.
    pub(crate) fn ask_of<Q: Question>(
        &mut self,
        kind: ObjectKind,
        name: &str,
        caller: Option<Caller>,
        question: Q,
        next: impl FnOnce(&mut Control, Result<Q, RpcError>) + Send + 'static,
    ) {
        let name = name.to_owned();
        self.put(question, move |control, ruling| {
            let allowed = control.allowed(kind, &name, caller, ruling);
            next(control, allowed);
        });
    }

    /// Has the policy thread ask all policies. What happened to plugins over it is told before what came of it.
    fn put<Q: Question>(&mut self, question: Q, next: impl FnOnce(&mut Control, Ruling<Q>) + Send + 'static) {
        let held = seeded::is(Bug::PolicyOnSidecore).then(seeded::hold_sidecores);
        self.policies.run(
            move |chain| {
                let _held = held;
                let ruling = chain.ask(question);
                (ruling, chain.take_events())
            },
            move |control, (ruling, events)| {
                control.plugin_events(events);
                next(control, ruling);
            },
        );
    }

    /// Whether a channel is as it was when its policies were asked (P1).
    fn check_unchanged(&self, id: &str, name: &str, asked: u64) -> Result<(), RpcError> {
        let now = self.channels.get(id).map(|channel| channel.setting.generation);
        if verdict_holds(asked, now) || seeded::is(Bug::AmendAfterChange) {
            return Ok(());
        }
        let now = now.map_or_else(|| "it is gone".to_owned(), |now| format!("it has generation {now}"));
        Err(RpcError::new(
            ErrorCode::Conflict,
            format!(
                "channel {name} has changed while its policies were asked about generation {asked}: {now}"
            ),
        )
        .about(format!("channel {name}"))
        .next("look at it again with vfiomuxctl channel show, then ask anew"))
    }

    /// What a ruling allows; who denied or amended what, and who should have answered, is recorded.
    fn allowed<Q: Question>(
        &mut self,
        kind: ObjectKind,
        name: &str,
        caller: Option<Caller>,
        ruling: Ruling<Q>,
    ) -> Result<Q, RpcError> {
        let Ruling { generation, outcome, answers } = ruling;
        let uid = caller.map(|caller| caller.uid);
        self.record_rulings(caller, &answers);
        for Answer { policy, verdict, confirming, .. } in &answers {
            let heard = match verdict {
                Verdict::Amend(_) if !confirming => EventKind::Amended,
                // Where this denies, that is the denial below.
                Verdict::Unanswered { .. } if outcome.is_ok() => EventKind::Plugin,
                _ => continue,
            };
            let mut told = event(heard, kind, name);
            told.reason = Some(format!("{policy}, asked to {}: {verdict}", Q::HOOK.name()));
            (told.uid, told.generation) = (uid, Some(generation).filter(|&generation| generation > 0));
            self.tell(told);
        }
        outcome.map_err(|Denial { policy, reason }| {
            let mut told = event(EventKind::Denied, kind, name);
            (told.reason, told.uid) = (Some(format!("{policy}: {reason}")), uid);
            self.tell(told);
            let what = if kind == ObjectKind::Device { "device" } else { "channel" };
            RpcError::denied(format!("{what} {name}"), reason)
        })
    }

    /// Tells policies that a channel was quarantined. It stays so until an operator acts, whatever they say; one that insists
    /// on it says so in an event.
    pub(crate) fn tell_fault(&mut self, id: &str, why: &str) {
        let Some(channel) = self.channels.get(id).filter(|_| self.has_policies()) else { return };
        let (asked, name) = (policy_channel(channel), channel.setting.name.clone());
        let (device, description) = (channel.device.clone(), why.to_owned());
        self.put_fault(Fault { kind: FaultKind::Channel, device, channel: Some(asked), description }, name);
    }

    /// Tells policies of a device's fault.
    pub(crate) fn tell_device_fault(&mut self, kind: FaultKind, device: &str, why: &str) {
        if self.has_policies() {
            let (device, description) = (device.to_owned(), why.to_owned());
            self.put_fault(Fault { kind, device: device.clone(), channel: None, description }, device);
        }
    }

    fn put_fault(&mut self, fault: Fault, name: String) {
        let object = if fault.channel.is_some() { ObjectKind::Channel } else { ObjectKind::Device };
        self.policies.run(
            move |chain| (chain.fault(&fault), chain.take_events()),
            move |control, (ruling, events)| {
                control.plugin_events(events);
                if let Some(Denial { policy, reason }) = ruling.hold {
                    let mut told = event(EventKind::Plugin, object, name);
                    told.reason = Some(format!("{policy}, told of the fault: hold: {reason}"));
                    control.tell(told);
                }
                control.retune_each(ruling.proposals);
            },
        );
    }

    /// Asks all policies about what a front-end wants, before any of its memory is granted.
    ///
    /// A tune meanwhile is no reason to turn a VM away: what changed is asked about once more.
    pub(crate) fn ask_session(
        &mut self,
        id: &str,
        question: Session,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let owned = id.to_owned();
        self.ask_for(id, None, question.clone(), move |control, allowed| match allowed {
            Err(error) if error.code == ErrorCode::Conflict && control.channels.contains_key(&owned) => {
                let Some(channel) = control.channels.get(&owned).map(policy_channel) else { return };
                control.ask_session(&owned, Session { channel, ..question }, next);
            }
            Err(error) => next(control, Err(error.message)),
            Ok(_) => next(control, Ok(())),
        });
    }
}
