//! What goes into the audit of a request on its way: when it comes, when policies have ruled, when it is answered.

use std::io;

use serde_json::Value;
use vfiomux_policy::{Answer, Verdict};
use vfiomux_rpc::{
    AuditAnswer, AuditEntry, AuditRuling, Caller, Change, EventKind, Method, Object, ObjectKind, Refusal,
    Request, Role, RpcError, Target, View,
};

use super::Control;
use super::tune::Wish;
use crate::event::{event, time_unix_ns};

impl Control {
    /// Puts a change on record, before anything is done about it.
    pub(crate) fn record_asked(&mut self, request: &mut Request) {
        if !request.method.is_change() {
            return;
        }
        let Request { caller, view, change, method, .. } = request;
        let serial = self.put_on_record(*caller, None, view, change, method);
        request.caller.audit = serial;
        request.ticket.set_audit(serial);
    }

    /// Puts the answers on record that were given since this was last called, and the refusals of callers without the role.
    pub(crate) fn record_answers(&mut self) {
        while let Some(Refusal { caller, view, change, method, error }) = self.rpc.next_refusal() {
            if let Some(serial) = self.put_on_record(caller, None, &view, &change, &method) {
                self.record_answer(serial, Err(error));
            }
        }
        while let Some((serial, answer)) = self.rpc.next_audited() {
            self.record_answer(serial, answer);
        }
    }

    /// Notes what policies said to the request of a caller.
    pub(crate) fn record_rulings(&mut self, caller: Option<Caller>, answers: &[Answer]) {
        if let Some(serial) = caller.and_then(|caller| caller.audit) {
            self.audit.ruled(serial, answers.iter().map(ruling));
        }
    }

    /// Puts on record what a plugin wants unasked, and what the others said to it.
    ///
    /// A caller's request is put there when it comes. A plugin may want the same in vain every second, so what it wants is only
    /// when something is about to come of it, or has, or when it is told that nothing does. What makes no sense as a request, an
    /// amendment that the channel does not have, is told and not on record: there is nothing that could be written down.
    pub(crate) fn record_wish(&mut self, wish: &Wish, answers: &[Answer]) -> Option<u64> {
        let Wish { key: (policy, _), change, wanted, .. } = wish;
        let (view, method) = (View::of_host(Role::Admin), Method::ChannelTune(wanted.clone()));
        let serial = self.put_on_record(own_caller(), Some(policy.clone()), &view, change, &method)?;
        self.audit.ruled(serial, answers.iter().map(ruling));
        Some(serial)
    }

    fn put_on_record(
        &mut self,
        caller: Caller,
        plugin: Option<String>,
        view: &View,
        change: &Change,
        method: &Method,
    ) -> Option<u64> {
        // A wish is for the generation that it names and for no other, and may be put on record just after it was granted.
        let generation_before = match &plugin {
            Some(_) => change.expected_generation,
            None => self.generation_of(method.target()),
        };
        let entry = AuditEntry {
            serial: 0,
            asked_unix_ns: time_unix_ns(),
            uid: caller.uid,
            gid: caller.gid,
            pid: caller.pid,
            role: caller.role,
            plugin,
            confined_to: match view.shows_host() {
                true => Vec::new(),
                false => view.tenants().map(|(tenant, _)| tenant.to_owned()).collect(),
            },
            request_id: change.request_id.clone(),
            method: method.name().to_owned(),
            params: params_of(method),
            object: method.target().describe(),
            tenant: self.tenant_of(method).filter(|tenant| view.shows(tenant)),
            dry_run: change.dry_run,
            generation_before,
            rulings: Vec::new(),
            answer: None,
        };
        match self.audit.asked(entry) {
            Ok(serial) => Some(serial),
            Err(error) => {
                self.audit_failed(&error);
                None
            }
        }
    }

    pub(crate) fn record_answer(&mut self, serial: u64, answer: Result<Option<u64>, RpcError>) {
        let (generation_after, error) = match answer {
            Ok(generation) => (generation, None),
            Err(error) => (None, Some(error.message)),
        };
        let answer = AuditAnswer { answered_unix_ns: time_unix_ns(), error, generation_after };
        if let Err(error) = self.audit.answered(serial, answer) {
            self.audit_failed(&error);
        }
    }

    fn audit_failed(&mut self, error: &io::Error) {
        let mut fault = event(EventKind::Fault, ObjectKind::Daemon, "vfiomuxd");
        fault.reason = Some(format!("the audit could not be written: {error}"));
        self.tell(fault);
    }

    fn tenant_of(&self, method: &Method) -> Option<String> {
        let object = |kind, name: String| self.owner_of(&Object { kind, name });
        match (method, method.target()) {
            (Method::ChannelCreate(wanted), _) => Some(wanted.tenant.clone()),
            (_, Target::Channel(name)) => object(ObjectKind::Channel, name.to_owned()),
            (_, Target::Job(id)) => object(ObjectKind::Job, id.to_string()),
            (_, Target::Tenant(name)) => Some(name.to_owned()),
            _ => None,
        }
    }

    fn generation_of(&self, target: Target<'_>) -> Option<u64> {
        match target {
            Target::Channel(name) => self.channel_named(name).ok().map(|channel| channel.setting.generation),
            Target::Device(name) => self.device_named(name).ok().map(|device| device.generation),
            _ => None,
        }
    }
}

/// The daemon itself, in whose name plugins act: what they may do is bounded by the hooks, and not by a role.
pub(crate) fn own_caller() -> Caller {
    Caller {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        pid: 0,
        role: Role::Admin,
        audit: None,
    }
}

/// What was asked for, if it is short enough to be kept.
fn params_of(method: &Method) -> Option<Value> {
    method.params().ok().filter(|params| params.to_string().len() <= AuditEntry::PARAMS_BYTES_MAX)
}

fn ruling(answer: &Answer) -> AuditRuling {
    let reason = match &answer.verdict {
        Verdict::Allow => None,
        Verdict::Deny { reason } => Some(reason.clone()),
        Verdict::Unanswered { why } => Some(why.clone()),
        Verdict::Amend(amendments) => serde_json::to_string(amendments).ok(),
    };
    let verdict = if answer.confirming { "confirm: " } else { "" };
    AuditRuling {
        policy: answer.policy.clone(),
        verdict: format!("{verdict}{}", answer.verdict.name()),
        reason,
        took_ns: answer.took_ns,
    }
}
