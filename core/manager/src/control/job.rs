//! Long operations, as whoever waits for them sees them.
//!
//! ```text
//!   request ─► begin ─► the operation, with a ticket that knows its job ─► reply ─► ended
//!      ▲                     │ progress, what it does now                    │
//!      └── background: the   ▼                                               ▼
//!          job, at once    job.show ◄──────────── result, or why there is none
//! ```
//!
//! A job is nothing that an operation has to know of: its ticket carries the number, and the answer to the ticket is the
//! result of the job, whether or not somebody still waits for it. An operation that can tell how far it is does so by the
//! number; one that can end early asks for a flag, and looks at it where it can stop without leaving anything half done.
//!
//! What is refused before it has begun is no job. A job that has begun is journalled until it ends, so that the next daemon
//! can say of it that it was interrupted; what such a job leaves to be done is done by recovery, which asks the label and the
//! channel's own record, not the job.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use vfiomux_rpc::{
    Caller, ErrorCode, EventKind, JobInfo, JobState, Method, Object, ObjectKind, Request, RpcError,
};

use super::Control;
use crate::event::event;
use crate::journal::{BegunJob, Record, Settings};

/// How many that have ended are kept to be looked at.
const ENDED_KEPT: usize = 256;

/// The jobs that can be shown.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    all: BTreeMap<u64, Job>,
    /// Those that have ended, the oldest first.
    ended: VecDeque<u64>,
    last: u64,
}

#[derive(Debug)]
struct Job {
    info: JobInfo,
    /// Somebody wants it to end early. Read where the work is done, on any thread.
    cancel: Arc<AtomicBool>,
}

/// A part of a job's way: from one thousandth of it to another. Of an operation that is no job, none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Leg {
    job: Option<u64>,
    from: u16,
    to: u16,
}

impl Leg {
    /// All of it.
    pub(crate) fn whole(job: Option<u64>) -> Self {
        Self::part(job, 0, 1000)
    }

    /// From one thousandth to another.
    pub(crate) fn part(job: Option<u64>, from: u16, to: u16) -> Self {
        Self { job, from, to: to.clamp(from, 1000) }
    }

    fn permille(self, done: u64, of: u64) -> u16 {
        let length = u128::from(self.to - self.from);
        let gone = u128::from(done.min(of)) * length / u128::from(of.max(1));
        self.from + u16::try_from(gone).unwrap_or(0)
    }
}

/// What a method that can take long is carried out on; none for one that is no job.
fn object_of(method: &Method) -> Option<Object> {
    let (kind, name) = match method {
        Method::DeviceFormat(wanted) => (ObjectKind::Device, &wanted.device),
        Method::DeviceCalibrate(wanted) => (ObjectKind::Device, &wanted.device),
        Method::ChannelResize(wanted) => (ObjectKind::Channel, &wanted.name),
        Method::ChannelMove(wanted) if wanted.device.is_some() => (ObjectKind::Channel, &wanted.name),
        Method::ChannelDestroy(wanted) => (ObjectKind::Channel, &wanted.name),
        _ => return None,
    };
    Some(Object { kind, name: name.clone() })
}

impl Jobs {
    /// Those of an earlier daemon, which ended while they were under way.
    pub(crate) fn interrupted(settings: &Settings) -> Self {
        let mut jobs = Self { last: settings.last_job, ..Self::default() };
        let owner = |object: &Object| {
            let mut channels = settings.channels.values();
            channels.find(|known| known.name == object.name).map(|known| known.tenant.clone())
        };
        for (&id, begun) in &settings.jobs {
            let info = JobInfo {
                state: JobState::Interrupted,
                ended_unix_ns: Some(now_unix_ns()),
                error: Some(
                    RpcError::new(ErrorCode::Cancelled, "the daemon ended while it was under way")
                        .about(format!("job {id}"))
                        .next("look at what it was about, and ask for it again when it is not done"),
                ),
                began_unix_ns: begun.began_unix_ns,
                ..fresh(id, &begun.method, begun.object.clone(), owner(&begun.object), begun.uid)
            };
            jobs.all.insert(id, Job { info, cancel: Arc::default() });
            jobs.ended.push_back(id);
        }
        jobs
    }

    fn begin(&mut self, method: &str, object: Object, tenant: Option<String>, uid: u32) -> u64 {
        self.last += 1;
        let info = fresh(self.last, method, object, tenant, uid);
        self.all.insert(self.last, Job { info, cancel: Arc::default() });
        self.last
    }

    /// Takes back the last one, which nobody has heard of.
    fn forget(&mut self, id: u64) {
        self.all.remove(&id);
        self.last = self.last.min(id - 1);
    }

    /// Notes how a job ended; its state before that.
    fn end(&mut self, id: u64, result: Result<Value, RpcError>) -> Option<JobState> {
        let info = &mut self.all.get_mut(&id)?.info;
        let state = match &result {
            Ok(_) => JobState::Done,
            Err(error) if error.code == ErrorCode::Cancelled => JobState::Cancelled,
            Err(_) => JobState::Failed,
        };
        let before = std::mem::replace(&mut info.state, state);
        info.ended_unix_ns = Some(now_unix_ns());
        info.cancellable = false;
        match result {
            Ok(value) => (info.result, info.progress_permille) = (Some(value), 1000),
            Err(error) => info.error = Some(error),
        }
        self.ended.push_back(id);
        if self.ended.len() > ENDED_KEPT
            && let Some(oldest) = self.ended.pop_front()
        {
            self.all.remove(&oldest);
        }
        Some(before)
    }

    /// Whose it is; none of the host's, and of one that is not known.
    pub(crate) fn owner(&self, id: u64) -> Option<&str> {
        self.all.get(&id)?.info.tenant.as_deref()
    }

    pub(crate) fn info(&self, id: u64) -> Result<JobInfo, RpcError> {
        self.all.get(&id).map(|job| job.info.clone()).ok_or_else(|| unknown_job(id))
    }
}

impl Control {
    /// Carries out one request, as a job when it can take long.
    pub(crate) fn take_request(&mut self, mut request: Request) {
        self.record_asked(&mut request);
        let object = object_of(&request.method).filter(|_| !request.change.dry_run);
        match object {
            Some(object) => self.serve_as_job(request, object),
            None if request.change.background && !request.change.dry_run => {
                let error = RpcError::invalid_argument("background", "it is over at once");
                self.rpc.reply(request.ticket, Err(error.next("ask for it without background")));
            }
            None => self.serve_request(request),
        }
    }

    fn serve_as_job(&mut self, request: Request, object: Object) {
        let Request { ticket, caller, view, change, method } = request;
        let owner = self.owner_of(&object);
        let id = self.jobs.begin(method.name(), object, owner, caller.uid);
        let mut ticket = ticket.for_job(id);
        let waiting = change.background.then(|| ticket.detach());
        self.serve_request(Request { ticket, caller, view, change, method });
        let mut at_once = None;
        while let Some((job, result)) = self.rpc.next_ended() {
            if job == id {
                at_once = Some(result);
            } else {
                self.job_ended(job, result);
            }
        }
        match (at_once, waiting) {
            (None, waiting) => {
                self.job_begun(id, caller);
                if let Some(waiting) = waiting {
                    let begun = self.jobs.info(id).map(Into::into);
                    self.rpc.reply(waiting, begun);
                }
            }
            // Over before anybody could have heard of it.
            (Some(_), None) => self.jobs.forget(id),
            (Some(Err(error)), Some(waiting)) => {
                self.jobs.forget(id);
                self.rpc.reply(waiting, Err(error));
            }
            (Some(Ok(result)), Some(waiting)) => {
                self.job_begun(id, caller);
                self.job_ended(id, Ok(result));
                let over = self.jobs.info(id).map(Into::into);
                self.rpc.reply(waiting, over);
            }
        }
    }

    /// Takes up the results that operations have given since this was last called.
    pub(crate) fn end_jobs(&mut self) {
        while let Some((job, result)) = self.rpc.next_ended() {
            self.job_ended(job, result);
        }
    }

    fn job_begun(&mut self, id: u64, caller: Caller) {
        let Ok(info) = self.jobs.info(id) else { return };
        let begun = BegunJob {
            method: info.method.clone(),
            object: info.object.clone(),
            uid: info.uid,
            began_unix_ns: info.began_unix_ns,
        };
        self.journal_append(&Record::JobBegun { id, begun });
        let mut told = event(EventKind::Job, ObjectKind::Job, id.to_string());
        told.to = Some(JobState::Running.name().to_owned());
        told.reason = Some(what(&info));
        told.uid = Some(caller.uid);
        self.tell(told);
    }

    fn job_ended(&mut self, id: u64, result: Result<Value, RpcError>) {
        let why = result.as_ref().err().map(|error| error.message.clone());
        let Some(before) = self.jobs.end(id, result) else { return };
        self.journal_append(&Record::JobEnded { id });
        let Ok(info) = self.jobs.info(id) else { return };
        let mut told = event(EventKind::Job, ObjectKind::Job, id.to_string());
        (told.from, told.to) = (Some(before.name().to_owned()), Some(info.state.name().to_owned()));
        told.reason = Some(why.map_or_else(|| what(&info), |why| format!("{}: {why}", what(&info))));
        self.tell(told);
    }

    /// Says that the jobs of an earlier daemon are over.
    pub(crate) fn restore_jobs(&mut self) {
        let begun: Vec<u64> = self.journal.settings().jobs.keys().copied().collect();
        for id in begun {
            self.journal_append(&Record::JobEnded { id });
            let Ok(info) = self.jobs.info(id) else { continue };
            let mut told = event(EventKind::Job, ObjectKind::Job, id.to_string());
            told.from = Some(JobState::Running.name().to_owned());
            told.to = Some(JobState::Interrupted.name().to_owned());
            told.reason = Some(what(&info));
            self.tell(told);
        }
    }

    /// How far a job is on a leg of its way, and what it does now.
    pub(crate) fn job_progress(&mut self, leg: Leg, done: u64, of: u64, doing: &str) {
        let Some(job) = leg.job.and_then(|id| self.jobs.all.get_mut(&id)) else { return };
        if job.info.state.is_over() {
            return;
        }
        job.info.progress_permille = leg.permille(done, of);
        if job.info.doing != doing {
            doing.clone_into(&mut job.info.doing);
        }
    }

    /// From now on `job.cancel` raises this flag. The operation looks at it where it can end early, and then answers
    /// [`cancelled`].
    pub(crate) fn job_cancel_flag(&mut self, job: Option<u64>) -> Arc<AtomicBool> {
        let Some(job) = job.and_then(|id| self.jobs.all.get_mut(&id)) else { return Arc::default() };
        job.info.cancellable = true;
        job.cancel.clone()
    }

    /// From now on the job goes on to its end.
    pub(crate) fn job_is_final(&mut self, job: Option<u64>) {
        if let Some(job) = job.and_then(|id| self.jobs.all.get_mut(&id)) {
            job.info.cancellable = false;
        }
    }

    pub(crate) fn job_list(&self) -> Vec<JobInfo> {
        self.jobs.all.values().map(|job| job.info.clone()).collect()
    }

    pub(crate) fn job_show(&self, id: u64) -> Result<JobInfo, RpcError> {
        self.jobs.info(id)
    }

    pub(crate) fn job_cancel(&mut self, id: u64, dry_run: bool) -> Result<JobInfo, RpcError> {
        let info = self.jobs.info(id)?;
        let about = format!("job {id}");
        if info.state.is_over() {
            let message = format!("job {id} has ended: {}", info.state.name());
            return Err(RpcError::new(ErrorCode::Conflict, message)
                .about(about)
                .next(format!("see vfiomuxctl job show {id}")));
        }
        if !info.cancellable {
            let message = format!("job {id} ({}) cannot end early any more", what(&info));
            return Err(RpcError::new(ErrorCode::Conflict, message)
                .about(about)
                .next(format!("wait for its end with vfiomuxctl job wait {id}")));
        }
        if let Some(job) = self.jobs.all.get_mut(&id).filter(|_| !dry_run) {
            job.cancel.store(true, Ordering::Relaxed);
            job.info.state = JobState::Cancelling;
        }
        self.jobs.info(id)
    }
}

/// There is none of this number, or none that the caller may know of: the words are the same (C5).
pub(crate) fn unknown_job(id: u64) -> RpcError {
    RpcError::not_found(
        format!("job {id}"),
        "see the numbers with vfiomuxctl job list; only the last that have ended are kept",
    )
}

/// The answer of an operation that ended early because somebody wanted that.
pub(crate) fn cancelled(what: &str) -> RpcError {
    RpcError::new(ErrorCode::Cancelled, format!("{what} was cancelled; nothing has changed"))
}

fn what(info: &JobInfo) -> String {
    format!("{} of {}", info.method, info.object.name)
}

fn fresh(id: u64, method: &str, object: Object, tenant: Option<String>, uid: u32) -> JobInfo {
    JobInfo {
        id,
        method: method.to_owned(),
        object,
        tenant,
        uid,
        state: JobState::Running,
        progress_permille: 0,
        doing: String::new(),
        cancellable: false,
        began_unix_ns: now_unix_ns(),
        ended_unix_ns: None,
        result: None,
        error: None,
    }
}

fn now_unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leg_counts_between_its_ends() {
        let leg = Leg::part(Some(1), 200, 600);
        assert_eq!([0, 5, 10, 99].map(|done| leg.permille(done, 10)), [200, 400, 600, 600]);
        assert_eq!(leg.permille(0, 0), 200, "nothing to do is nothing done");
        assert_eq!(Leg::whole(None).permille(u64::MAX - 1, u64::MAX), 999);
    }

    #[test]
    fn the_last_jobs_that_have_ended_are_kept_and_no_number_is_given_twice() {
        let mut jobs = Jobs::default();
        let object = || Object { kind: ObjectKind::Channel, name: "disk".to_owned() };
        let first = jobs.begin("channel.resize", object(), None, 0);
        for _ in 0..ENDED_KEPT {
            let id = jobs.begin("channel.resize", object(), None, 0);
            jobs.end(id, Ok(Value::Null));
        }
        assert_eq!(jobs.info(first).unwrap().state, JobState::Running);
        jobs.end(first, Err(cancelled("it")));
        assert_eq!(jobs.info(first).unwrap().state, JobState::Cancelled);
        assert_eq!(jobs.info(first + 1).unwrap_err().code, ErrorCode::NotFound);
        let unheard = jobs.begin("channel.resize", object(), None, 0);
        jobs.forget(unheard);
        assert_eq!(jobs.begin("channel.resize", object(), None, 0), unheard, "nobody has heard of it");
    }
}
