//! Long operations as jobs: asked for in the background, looked at, and found interrupted after a crash.

use vfiomux_rpc::{Change, ChannelInfo, ErrorCode, EventKind, JobInfo, JobState, call};
use vfiomux_sim::{Action, Fault, Match, QueueMatch};

use super::world::{World, assert_refused, refusal, wait};
use crate::lifecycle::Oper;

fn background() -> Change {
    Change { background: true, ..Change::default() }
}

fn destruction(name: &str) -> call::ChannelDestroy {
    call::ChannelDestroy { name: name.to_owned(), force: false }
}

impl World {
    /// Asks for something in the background, and gives the job.
    pub(crate) fn begin<C: vfiomux_rpc::Call>(&self, call: &C) -> Result<JobInfo, vfiomux_rpc::RpcError> {
        refusal(self.client().call_value(call, &background())).map(|job| serde_json::from_value(job).unwrap())
    }

    pub(crate) fn job(&self, job: u64) -> JobInfo {
        self.call(&call::JobShow { job }).unwrap()
    }

    pub(crate) fn jobs(&self) -> Vec<JobInfo> {
        self.call(&call::JobList {}).unwrap()
    }

    /// Waits until a job has ended.
    #[track_caller]
    pub(crate) fn finish(&self, job: u64) -> JobInfo {
        wait("the job has ended", || Some(self.job(job)).filter(|job| job.state.is_over()))
    }
}

#[test]
fn what_is_asked_for_in_the_background_ends_by_itself_and_keeps_its_result() {
    let world = World::new("sim:nvme,size=64M");
    world.create("disk", 8);
    let begun = world.begin(&destruction("disk")).unwrap();
    assert_eq!((begun.method.as_str(), begun.object.name.as_str()), ("channel.destroy", "disk"));
    let ended = world.finish(begun.id);
    assert_eq!((ended.state, ended.progress_permille, ended.error), (JobState::Done, 1000, None));
    let result: ChannelInfo = serde_json::from_value(ended.result.unwrap()).unwrap();
    assert_eq!((result.name.as_str(), result.oper), ("disk", Oper::Destroyed));
    assert!(ended.ended_unix_ns >= Some(ended.began_unix_ns));
    let told: Vec<_> = world
        .events()
        .into_iter()
        .filter(|event| event.kind == EventKind::Job)
        .filter_map(|e| e.to)
        .collect();
    assert_eq!(told, ["running", "done"]);
    assert_refused(world.call(&call::JobCancel { job: begun.id }), ErrorCode::Conflict, "has ended: done");
    world.assert_whole();
}

#[test]
fn who_waits_is_answered_at_the_end_and_others_see_the_job() {
    let world = World::new("sim:nvme,size=64M");
    world.create("disk", 8);
    world.create("other", 8);
    world.destroy("disk", false).unwrap();
    world.begin(&destruction("other")).unwrap();
    let jobs = world.jobs();
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [1, 2]);
    world.finish(2);
}

/// What is refused before it has begun is no job, and its number is no secret gap.
#[test]
fn what_is_refused_at_once_is_no_job() {
    let world = World::new("sim:nvme,size=64M");
    world.create("disk", 8);
    assert_refused(world.begin(&destruction("nobody")), ErrorCode::NotFound, "channel list");
    let dry = Change { dry_run: true, ..background() };
    world.call_with(&destruction("disk"), &dry).unwrap();
    let elsewhere = call::ChannelMove { name: "disk".to_owned(), sidecore: Some(0), device: None };
    assert_refused(world.begin(&elsewhere), ErrorCode::InvalidArgument, "without background");
    assert_eq!(world.jobs(), []);
    assert_refused(world.call(&call::JobShow { job: 1 }), ErrorCode::NotFound, "job list");
    assert_eq!(world.begin(&destruction("disk")).unwrap().id, 1);
    world.finish(1);
}

/// T3, W1: a daemon that ends in the middle of a job says so of it when it is back, brings to its end what must be, and gives
/// no number twice.
#[test]
fn a_job_that_a_crash_cut_short_is_shown_as_interrupted() {
    let mut world = World::idle(&["sim:nvme,size=64M"]);
    world.start();
    let creation = call::ChannelCreate { endpoint: None, ..world.creation("disk", 8) };
    world.call(&creation).unwrap();
    let zeroes = Match { queue: QueueMatch::Io, opcode: Some(0x08), ..Match::default() };
    world.sim().inject(Fault { when: zeroes, action: Action::Hang });
    let job = world.begin(&destruction("disk")).unwrap().id;
    wait("it scrubs", || (world.job(job).doing == "scrubbing").then_some(()));
    assert_refused(world.call(&call::JobCancel { job }), ErrorCode::Conflict, "job wait");
    let mut wreck = world.wreck();
    wreck.start();
    let shown = wreck.job(job);
    assert_eq!((shown.state, shown.method.as_str()), (JobState::Interrupted, "channel.destroy"));
    wait("it is gone", || wreck.call(&call::ChannelList { tenant: None }).unwrap().is_empty().then_some(()));
    wreck.wait_scrubbed();
    wreck.assert_whole();
    let creation = call::ChannelCreate { endpoint: None, ..wreck.creation("disk", 8) };
    wreck.call(&creation).unwrap();
    assert_eq!(wreck.begin(&destruction("disk")).unwrap().id, job + 1);
    wreck.finish(job + 1);
    world.pull_and_stop();
}
