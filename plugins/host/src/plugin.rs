#![expect(unsafe_code, reason = "calls the hooks of a plugin")]
//! The plugin: from a question to C structures, through a hook, and from what it gave to an answer.

use std::ffi::c_void;
use std::ptr;

use vfiomux_plugin_abi::{self as abi, Extensible as _, Policy, RawVerdict, Text};
use vfiomux_policy::wire::{About, Call, PHRASE_BYTES_MAX, Reply, VERSION};
use vfiomux_policy::{Hook, Sample, Verdict};

use crate::library::Library;
use crate::sink::{self, Given, Sinks};
use crate::subject::{ChannelSubject, Samples, device, tenant};

/// A plugin that has begun.
#[derive(Debug)]
pub(crate) struct Plugin {
    policy: Policy,
    instance: *mut c_void,
    /// Named to the plugin for as long as it lives.
    _host: Box<abi::Host>,
}

impl Plugin {
    /// Has the plugin make an instance of its configuration.
    ///
    /// # Errors
    /// What to answer the daemon instead.
    pub(crate) fn begin(library: &Library, name: &str, configuration: &str) -> Result<Self, Reply> {
        let policy = library.policy;
        let mut host = Box::new(abi::Host::empty());
        host.minor = abi::MINOR;
        host.log = Some(sink::log);
        let mut instance = ptr::null_mut();
        if let Some(init) = policy.init {
            let mut request = abi::InitRequest::empty();
            (request.name, request.configuration) = (Text::new(name), Text::new(configuration));
            // SAFETY: the hook is of the plugin's table; all that it is given lives until it returns, and the host for as
            // long as the process.
            let (verdict, given) = Sinks::for_answer(|sinks| unsafe {
                init(&raw const *host, &raw const request, &raw mut instance, &raw const sinks.answer)
            });
            match verdict {
                RawVerdict::ALLOW => {}
                RawVerdict::DENY => return Err(Reply::Refused { why: reason(given) }),
                other => return Err(senseless(other)),
            }
        }
        Ok(Self { policy, instance, _host: host })
    }

    /// What the daemon is told of it.
    pub(crate) fn about(&self, sandbox: Vec<String>) -> About {
        let policy = &self.policy;
        let hooks = [
            (Hook::Discover, policy.discover.is_some()),
            (Hook::Claim, policy.claim.is_some()),
            (Hook::Create, policy.create.is_some()),
            (Hook::Attach, policy.attach.is_some()),
            (Hook::Session, policy.session.is_some()),
            (Hook::Tune, policy.tune.is_some()),
            (Hook::Migrate, policy.migrate.is_some()),
            (Hook::Destroy, policy.destroy.is_some()),
            (Hook::Tick, policy.tick.is_some()),
            (Hook::Pressure, policy.pressure.is_some()),
            (Hook::Fault, policy.fault.is_some()),
        ];
        // SAFETY: the plugin vouches for the texts of its table; if it lies, this process ends.
        let text = |text| unsafe { sink::text(text, PHRASE_BYTES_MAX) };
        About {
            version: VERSION,
            plugin: text(policy.name),
            plugin_version: text(policy.version),
            abi: (policy.major, policy.minor),
            hooks: hooks.into_iter().filter(|(_, there)| *there).map(|(hook, _)| hook).collect(),
            saves: policy.save.is_some(),
            restores: policy.restore.is_some(),
            sandbox,
        }
    }

    /// Answers a question. The second part is the state that the plugin left, where it was asked for that.
    pub(crate) fn answer(&mut self, call: &Call, state: &[u8]) -> (Reply, Vec<u8>) {
        let reply = match call {
            Call::Init { .. } => Reply::Garbage { what: "it was asked to begin twice".to_owned() },
            Call::Tick(_) | Call::Pressure(_) => self.retunes(call),
            Call::Fault(fault) => self.fault(fault),
            Call::Save => return self.save(),
            Call::Restore => self.restore(state),
            question => self.verdict(question),
        };
        (reply, Vec::new())
    }

    fn verdict(&mut self, question: &Call) -> Reply {
        let (verdict, given) = Sinks::for_answer(|sinks| self.ask(question, &raw const sinks.answer));
        match interpret(verdict, given) {
            Ok(verdict) => Reply::Verdict(verdict),
            Err(garbage) => garbage,
        }
    }

    /// Calls the hook of a question.
    fn ask(&mut self, question: &Call, sink: *const abi::AnswerSink) -> RawVerdict {
        let instance = self.instance;
        // Of each hook below: it is of the plugin's table, the instance is what the plugin made, and all that it is given lives
        // until it returns.
        match question {
            Call::Discover(of) => {
                let Some(hook) = self.policy.discover else { return RawVerdict::ALLOW };
                let mut request = abi::DiscoverRequest::empty();
                request.vendor_id = of.function.vendor_id.into();
                request.device_id = of.function.device_id.into();
                request.class_code = of.function.class_code;
                request.device = Text::new(&of.function.name);
                request.driver = Text::new(&of.function.driver);
                // SAFETY: as above.
                unsafe { hook(instance, &raw const request, sink) }
            }
            Call::Claim(of) => {
                let Some(hook) = self.policy.claim else { return RawVerdict::ALLOW };
                let mut request = abi::ClaimRequest::empty();
                (request.caller_uid, request.dry_run) = (of.caller_uid, of.dry_run.into());
                (request.device, request.unprotected) = (Text::new(&of.function.name), of.unprotected.into());
                // SAFETY: as above.
                unsafe { hook(instance, &raw const request, sink) }
            }
            Call::Create(of) => {
                let Some(hook) = self.policy.create else { return RawVerdict::ALLOW };
                let (channel, device, tenant) =
                    (ChannelSubject::new(&of.channel), device(&of.device), tenant(&of.tenant));
                let mut request = abi::CreateRequest::empty();
                (request.caller_uid, request.dry_run) = (of.caller_uid, of.dry_run.into());
                request.channel = channel.as_ptr();
                (request.device, request.tenant) = (&raw const device, &raw const tenant);
                // SAFETY: as above.
                unsafe { hook(instance, &raw const request, sink) }
            }
            Call::Attach(of) => {
                let Some(hook) = self.policy.attach else { return RawVerdict::ALLOW };
                let channel = ChannelSubject::new(&of.channel);
                let mut request = abi::AttachRequest::empty();
                (request.caller_uid, request.dry_run) = (of.caller_uid, of.dry_run.into());
                (request.client, request.channel) = (of.client.into(), channel.as_ptr());
                request.endpoint = Text::new(&of.endpoint);
                // SAFETY: as above.
                unsafe { hook(instance, &raw const request, sink) }
            }
            Call::Session(of) => {
                let Some(hook) = self.policy.session else { return RawVerdict::ALLOW };
                let channel = ChannelSubject::new(&of.channel);
                let mut request = abi::SessionRequest::empty();
                request.channel = channel.as_ptr();
                (request.features_offered, request.features_taken) = (of.features_offered, of.features_taken);
                (request.memory_regions, request.memory_bytes) = (of.memory_regions, of.memory_bytes);
                (request.peer_pid, request.peer_uid) = (of.peer_pid, of.peer_uid);
                // SAFETY: as above.
                unsafe { hook(instance, &raw const request, sink) }
            }
            Call::Tune(of) => {
                let Some(hook) = self.policy.tune else { return RawVerdict::ALLOW };
                let (channel, wanted) = (ChannelSubject::new(&of.channel), ChannelSubject::new(&of.wanted));
                let (device, tenant) = (device(&of.device), tenant(&of.tenant));
                let mut request = abi::TuneRequest::empty();
                (request.caller_uid, request.dry_run) = (of.caller_uid, of.dry_run.into());
                (request.channel, request.wanted) = (channel.as_ptr(), wanted.as_ptr());
                (request.device, request.tenant) = (&raw const device, &raw const tenant);
                // SAFETY: as above.
                unsafe { hook(instance, &raw const request, sink) }
            }
            Call::Migrate(of) => {
                let Some(hook) = self.policy.migrate else { return RawVerdict::ALLOW };
                let (channel, tenant) = (ChannelSubject::new(&of.channel), tenant(&of.tenant));
                let target = of.target.as_ref().map(device);
                let mut request = abi::MigrateRequest::empty();
                (request.caller_uid, request.dry_run) = (of.caller_uid, of.dry_run.into());
                (request.channel, request.tenant) = (channel.as_ptr(), &raw const tenant);
                request.target = target.as_ref().map_or(ptr::null(), ptr::from_ref);
                request.target_host = Text::new(&of.target_host);
                // SAFETY: as above.
                unsafe { hook(instance, &raw const request, sink) }
            }
            Call::Destroy(of) => {
                let Some(hook) = self.policy.destroy else { return RawVerdict::ALLOW };
                let channel = ChannelSubject::new(&of.channel);
                let mut request = abi::DestroyRequest::empty();
                (request.caller_uid, request.dry_run) = (of.caller_uid, of.dry_run.into());
                (request.force, request.channel) = (of.force.into(), channel.as_ptr());
                // SAFETY: as above.
                unsafe { hook(instance, &raw const request, sink) }
            }
            // No questions; they were answered elsewhere.
            Call::Init { .. }
            | Call::Tick(_)
            | Call::Pressure(_)
            | Call::Fault(_)
            | Call::Save
            | Call::Restore => RawVerdict::ALLOW,
        }
    }

    /// Calls the hook of a report.
    fn retunes(&mut self, report: &Call) -> Reply {
        let instance = self.instance;
        let given = match report {
            Call::Tick(of) => {
                let Some(hook) = self.policy.tick else { return Reply::Retunes(Vec::new()) };
                let channels = Samples::new(&of.channels);
                let mut request = abi::TickRequest::empty();
                (request.unix_seconds, request.period_ns) = (of.unix_seconds, of.period_ns);
                (request.channels, request.channels_count) = (channels.as_ptr(), channels.count());
                // SAFETY: as for the hooks of questions.
                let call = |sinks: &Sinks| unsafe {
                    hook(instance, &raw const request, &raw const sinks.retune);
                };
                Sinks::for_retunes(ids(&of.channels), call).1
            }
            Call::Pressure(of) => {
                let Some(hook) = self.policy.pressure else { return Reply::Retunes(Vec::new()) };
                let channels = Samples::new(&of.channels);
                let mut request = abi::PressureRequest::empty();
                request.kind = of.kind.into();
                (request.level_permille, request.subject) = (of.level_permille, Text::new(&of.subject));
                (request.channels, request.channels_count) = (channels.as_ptr(), channels.count());
                // SAFETY: as for the hooks of questions.
                let call = |sinks: &Sinks| unsafe {
                    hook(instance, &raw const request, &raw const sinks.retune);
                };
                Sinks::for_retunes(ids(&of.channels), call).1
            }
            _ => Given::default(),
        };
        if given.overflowed { overflow() } else { Reply::Retunes(given.retunes) }
    }

    fn fault(&mut self, of: &vfiomux_policy::Fault) -> Reply {
        let instance = self.instance;
        let Some(hook) = self.policy.fault else {
            return Reply::Fault { verdict: Verdict::Allow, retunes: Vec::new() };
        };
        let channel = of.channel.as_ref().map(ChannelSubject::new);
        let mut request = abi::FaultRequest::empty();
        request.kind = of.kind.into();
        (request.device, request.description) = (Text::new(&of.device), Text::new(&of.description));
        request.channel = channel.as_ref().map_or(ptr::null(), ChannelSubject::as_ptr);
        // SAFETY: as for the hooks of questions.
        let (verdict, mut given) = Sinks::for_fault(|sinks| unsafe {
            hook(instance, &raw const request, &raw const sinks.answer, &raw const sinks.retune)
        });
        let retunes = std::mem::take(&mut given.retunes);
        match interpret(verdict, given) {
            Ok(verdict) => Reply::Fault { verdict, retunes },
            Err(garbage) => garbage,
        }
    }

    fn save(&mut self) -> (Reply, Vec<u8>) {
        let Some(hook) = self.policy.save else { return (Reply::Done, Vec::new()) };
        let instance = self.instance;
        // SAFETY: as for the hooks of questions.
        let (nothing, given) = Sinks::for_state(|sinks| unsafe { hook(instance, &raw const sinks.state) });
        // State that did not fit is no state.
        let state = if nothing == 0 && !given.overflowed { given.state } else { Vec::new() };
        (Reply::Done, state)
    }

    fn restore(&mut self, state: &[u8]) -> Reply {
        let Some(hook) = self.policy.restore else {
            return Reply::Refused { why: "it takes no state over".to_owned() };
        };
        let (instance, state) = (self.instance, Text::from_bytes(state));
        // SAFETY: as for the hooks of questions.
        let (verdict, given) =
            Sinks::for_answer(|sinks| unsafe { hook(instance, state, &raw const sinks.answer) });
        match verdict {
            RawVerdict::ALLOW => Reply::Done,
            RawVerdict::DENY => Reply::Refused { why: reason(given) },
            other => senseless(other),
        }
    }

    /// Ends the plugin in order.
    pub(crate) fn end(self) {
        if let Some(fini) = self.policy.fini {
            // SAFETY: the hook is of the plugin's table, and the instance is not used again.
            unsafe { fini(self.instance) };
        }
    }
}

fn ids(channels: &[Sample]) -> impl Iterator<Item = String> {
    channels.iter().map(|sample| sample.channel.id.clone())
}

/// The verdict that a number, with what was given beside it, amounts to.
fn interpret(verdict: RawVerdict, given: Given) -> Result<Verdict, Reply> {
    match verdict {
        _ if given.overflowed => Err(overflow()),
        RawVerdict::ALLOW => Ok(Verdict::Allow),
        RawVerdict::DENY => Ok(Verdict::Deny { reason: reason(given) }),
        RawVerdict::AMEND => Ok(Verdict::Amend(given.amendments)),
        other => Err(senseless(other)),
    }
}

fn reason(given: Given) -> String {
    if given.reason.is_empty() { "no reason given".to_owned() } else { given.reason }
}

fn senseless(verdict: RawVerdict) -> Reply {
    Reply::Garbage { what: format!("it answered {}, which is no verdict", verdict.0) }
}

fn overflow() -> Reply {
    Reply::Garbage { what: "it gave more than an answer holds".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_no_verdict_is_garbage() {
        assert_eq!(interpret(RawVerdict::ALLOW, Given::default()), Ok(Verdict::Allow));
        assert_eq!(interpret(RawVerdict::DENY, Given::default()), Ok(Verdict::deny("no reason given")));
        for number in [3, 77, u32::MAX] {
            assert!(matches!(interpret(RawVerdict(number), Given::default()), Err(Reply::Garbage { .. })));
        }
    }

    #[test]
    fn an_answer_that_was_cut_is_no_answer() {
        let given = Given { overflowed: true, ..Given::default() };
        assert!(interpret(RawVerdict::ALLOW, given).is_err());
    }
}
