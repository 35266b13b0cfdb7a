//! The message being carried out: what it waits for, and how it is concluded.

use vfiomux_spec::vhost_user::{FrontendRequest, Inflight, U64, VringState};
use zerocopy::IntoBytes;

use super::Session;
use super::memory::MemoryTable;
use crate::seeded::{self, Bug};
use crate::{Action, Direction, EndReason, Error, InflightRegion, Outcome, RegionId, Token};

/// The message being carried out.
#[derive(Debug)]
pub(super) struct Job {
    request: FrontendRequest,
    needs_reply: bool,
    /// Actions that the owner has not answered yet.
    waiting: Vec<(Token, Awaited)>,
    /// What to do when there is none left.
    then: Then,
    /// The first thing that went wrong.
    failure: Option<String>,
    /// What GET_INFLIGHT_FD is answered with.
    inflight: Option<InflightRegion>,
}

/// What changes in the session when an action has been done.
#[derive(Debug)]
pub(super) enum Awaited {
    Start { index: u16 },
    Stop { index: u16 },
    ReplaceMemory(MemoryTable),
    AddMemory(RegionId),
    RemoveMemory(RegionId),
    WriteConfig { offset: usize, bytes: Vec<u8> },
    Inflight,
    Nothing { action: &'static str },
}

impl Awaited {
    fn action(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start-ring",
            Self::Stop { .. } => "stop-ring",
            Self::ReplaceMemory(_) | Self::AddMemory(_) => "map-memory",
            Self::RemoveMemory(_) => "unmap-memory",
            Self::WriteConfig { .. } => "write-config",
            Self::Inflight => "get-inflight",
            Self::Nothing { action } => action,
        }
    }
}

/// How a job goes on when nothing is waited for any more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// Acknowledge, if the front-end wants it.
    Acknowledge,
    /// The request has been answered.
    Nothing,
    /// Tell where a ring has stopped.
    ReplyVringBase { index: u16 },
    /// Hand the in-flight region over, in a payload of this size.
    ReplyInflight { inflight: Inflight, payload_size: usize },
    /// All rings have stopped: reset the device, then acknowledge.
    ResetDevice,
    /// All rings have stopped: tell of the device status zero, then acknowledge.
    ResetStatus,
}

impl Session {
    pub(super) fn begin(&mut self, request: FrontendRequest, needs_reply: bool) {
        self.job = Some(Job {
            request,
            needs_reply,
            waiting: Vec::new(),
            then: Then::Acknowledge,
            failure: None,
            inflight: None,
        });
    }

    pub(super) fn then(&mut self, then: Then) {
        if let Some(job) = &mut self.job {
            job.then = then;
        }
    }

    /// The job cannot be carried out.
    pub(super) fn fail(&mut self, why: String) {
        if let Some(job) = &mut self.job {
            job.failure.get_or_insert(why);
        }
    }

    /// Ask the owner for something on behalf of the present job.
    pub(super) fn ask(&mut self, awaited: Awaited, action: impl FnOnce(Token) -> Action) {
        let token = Token(self.next_token);
        self.next_token += 1;
        let action = action(token);
        let detail = match &awaited {
            Awaited::Start { index } | Awaited::Stop { index } => format!("ring {index}"),
            _ => String::new(),
        };
        self.trace.push(Direction::Asked, action.name(), detail);
        if let Some(job) = &mut self.job {
            job.waiting.push((token, awaited));
        }
        self.actions.push_back(action);
    }

    /// Ask for something that changes nothing in the session.
    pub(super) fn tell(&mut self, name: &'static str, action: impl FnOnce(Token) -> Action) {
        self.ask(Awaited::Nothing { action: name }, action);
    }

    /// Take the owner's answer.
    pub(super) fn answer(&mut self, token: Token, outcome: Outcome) -> Result<(), Error> {
        let job = self.job.as_mut().ok_or(Error::UnknownToken)?;
        let at = job.waiting.iter().position(|(t, _)| *t == token).ok_or(Error::UnknownToken)?;
        let Some((_, awaited)) = job.waiting.get(at) else { return Err(Error::UnknownToken) };
        let fits = match awaited {
            Awaited::Stop { .. } => matches!(outcome, Outcome::RingStopped { .. } | Outcome::Failed(_)),
            Awaited::Inflight => matches!(outcome, Outcome::Inflight(_) | Outcome::Failed(_)),
            _ => matches!(outcome, Outcome::Done | Outcome::Failed(_)),
        };
        if !fits {
            return Err(Error::WrongOutcome { action: awaited.action(), outcome: outcome_name(&outcome) });
        }
        let (_, awaited) = job.waiting.swap_remove(at);
        let detail = match &outcome {
            Outcome::Failed(why) => format!("failed: {why}"),
            Outcome::RingStopped { base } => format!("at {base}"),
            Outcome::Done | Outcome::Inflight(_) => String::new(),
        };
        self.trace.push(Direction::Answered, awaited.action(), detail);
        self.settle(awaited, outcome);
        self.conclude_if_idle();
        Ok(())
    }

    /// Change what an answer changes.
    fn settle(&mut self, awaited: Awaited, outcome: Outcome) {
        match (awaited, outcome) {
            (Awaited::Start { index }, Outcome::Failed(why)) => {
                // Without its kick the ring stays stopped until the front-end sets it up anew.
                if let Some(ring) = self.rings.get_mut(usize::from(index)) {
                    ring.running = false;
                    ring.kick = None;
                }
                self.fail(why);
            }
            (Awaited::Stop { index }, Outcome::RingStopped { base }) => {
                if let Some(ring) = self.rings.get_mut(usize::from(index)) {
                    ring.running = false;
                    ring.base = base;
                }
            }
            (Awaited::ReplaceMemory(table), Outcome::Done) => self.memory = table,
            (Awaited::AddMemory(region), Outcome::Done) => self.memory.add(region),
            (Awaited::RemoveMemory(region), Outcome::Done) => self.memory.remove(region),
            (Awaited::WriteConfig { offset, bytes }, Outcome::Done) => {
                let present = self.device.config.iter_mut().skip(offset);
                present.zip(bytes).for_each(|(present, new)| *present = new);
            }
            (Awaited::Inflight, Outcome::Inflight(region)) => {
                if let Some(job) = &mut self.job {
                    job.inflight = Some(region);
                }
            }
            (_, Outcome::Failed(why)) => self.fail(why),
            // `answer` has seen to it that action and outcome fit; what is left changes nothing.
            _ => {}
        }
    }

    /// Reply to the job's message if nothing is waited for any more.
    pub(super) fn conclude_if_idle(&mut self) {
        let idle = |job: &mut Job| job.waiting.is_empty() || seeded::is(Bug::EarlyReply);
        let Some(mut job) = self.job.take_if(idle) else { return };
        let name = job.request.name();
        match (job.then, job.failure.take()) {
            (Then::Nothing, None) => {}
            (Then::Acknowledge, failure) => self.acknowledge(&job, failure),
            (Then::ReplyInflight { mut inflight, payload_size }, failure) => {
                // A region of no size says that there is none (vhost-user: GET_INFLIGHT_FD); the front-end goes on
                // without.
                let region = job.inflight.take();
                inflight.mmap_size = region.as_ref().map_or(0, |region| region.mmap_size);
                inflight.mmap_offset = region.as_ref().map_or(0, |region| region.mmap_offset);
                let payload = inflight.as_bytes().get(..payload_size).unwrap_or_default();
                let fds = region.into_iter().map(|region| region.file).collect();
                self.reply(job.request, payload, fds, failure.unwrap_or_default());
            }
            // The rest cannot be told that something failed.
            (_, Some(why)) if !job.needs_reply || matches!(job.then, Then::ReplyVringBase { .. }) => {
                self.close(EndReason::Failed { request: name, why });
            }
            (_, Some(why)) => self.acknowledge(&job, Some(why)),
            (Then::ReplyVringBase { index }, None) => {
                let num = self.rings.get_mut(usize::from(index)).map_or(0, |ring| {
                    ring.kick = None;
                    ring.base
                });
                let state = VringState { index: u32::from(index), num };
                self.reply(job.request, state.as_bytes(), Vec::new(), format!("ring {index} at {num}"));
            }
            (Then::ResetDevice, None) => {
                self.rings.iter_mut().for_each(super::Ring::reset);
                self.status = 0;
                self.job = Some(Job { then: Then::Acknowledge, ..job });
                self.tell("reset-device", |token| Action::ResetDevice { token });
            }
            (Then::ResetStatus, None) => {
                self.rings.iter_mut().for_each(|ring| ring.kick = None);
                self.job = Some(Job { then: Then::Acknowledge, ..job });
                self.tell("set-status", |token| Action::SetStatus { token, status: 0 });
            }
        }
    }

    /// Say how a job went to a front-end that has asked for it. One that has not would take it for done, so a failure is
    /// then the end of the session.
    fn acknowledge(&mut self, job: &Job, failure: Option<String>) {
        match failure {
            None if job.needs_reply => self.send_acknowledgement(job.request, 0, String::from("ok")),
            None => {}
            Some(why) if job.needs_reply => {
                self.send_acknowledgement(job.request, 1, format!("failed: {why}"));
            }
            Some(why) => self.close(EndReason::Failed { request: job.request.name(), why }),
        }
    }

    pub(super) fn send_acknowledgement(&mut self, request: FrontendRequest, value: u64, detail: String) {
        self.reply(request, U64 { value }.as_bytes(), Vec::new(), detail);
    }
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::RingStopped { .. } => "ring-stopped",
        Outcome::Inflight(_) => "inflight",
        Outcome::Failed(_) => "failed",
    }
}
