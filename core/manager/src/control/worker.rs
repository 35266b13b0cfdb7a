//! Threads that may block, and the one way back from them.
//!
//! Whatever can take long (mapping a guest's memory, talking to a controller's admin queue, scrubbing) runs as a job on a
//! worker thread. A job ends in a [`Continuation`], which the control thread runs when it next comes round. So all state
//! is touched by one thread only, and a flow of many steps reads from top to bottom.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Control;
use crate::seeded;

/// What the control thread does when a job has ended.
pub(crate) type Continuation = Box<dyn FnOnce(&mut Control) + Send>;

/// The way back to the control thread.
#[derive(Clone)]
pub(crate) struct Poster {
    continuations: Sender<Continuation>,
    waker: Arc<mio::Waker>,
}

impl Poster {
    pub(crate) fn new(continuations: Sender<Continuation>, waker: Arc<mio::Waker>) -> Self {
        Self { continuations, waker }
    }

    /// Has the control thread run `next`. Lost without harm when it has ended.
    pub(crate) fn post(&self, next: impl FnOnce(&mut Control) + Send + 'static) {
        let _ = self.continuations.send(Box::new(next));
        // The waker is an eventfd: it fails only when the poll behind it is gone, and nobody waits any more.
        let _ = self.waker.wake();
    }
}

type Job<W> = Box<dyn FnOnce(&mut W) + Send>;

/// A thread with a state of its own, working off jobs in the order given.
pub(crate) struct Worker<W> {
    jobs: Option<Sender<Job<W>>>,
    poster: Poster,
    thread: Option<JoinHandle<()>>,
}

/// What a worker does beside its jobs.
pub(crate) trait Idle {
    /// How often to look; `None` for never.
    const EVERY: Option<Duration>;

    /// Looks at what nobody asked about.
    fn idle(&mut self, _poster: &Poster) {}
}

impl<W: Idle + Send + 'static> Worker<W> {
    /// Starts a thread called `name`. `make` runs on it.
    pub(crate) fn start(
        name: &str,
        poster: Poster,
        make: impl FnOnce() -> W + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job<W>>();
        let back = poster.clone();
        let seeded = seeded::active();
        let body = move || {
            seeded::activate(seeded);
            let mut state = make();
            let mut looked = Instant::now();
            loop {
                let next = match W::EVERY {
                    Some(every) => queue.recv_timeout(every.saturating_sub(looked.elapsed())),
                    None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                match next {
                    Ok(job) => job(&mut state),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                // Also between jobs that follow one another without a pause.
                if W::EVERY.is_some_and(|every| looked.elapsed() >= every) {
                    state.idle(&back);
                    looked = Instant::now();
                }
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(Self { jobs: Some(jobs), poster, thread: Some(thread) })
    }

    /// Has the worker do `job`, and the control thread go on with `next` and what came of it.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut W) -> T + Send + 'static,
        next: impl FnOnce(&mut Control, T) + Send + 'static,
    ) {
        let poster = self.poster.clone();
        let whole: Job<W> = Box::new(move |state| {
            let result = job(state);
            poster.post(move |control| next(control, result));
        });
        // The thread ends only after the sender is dropped, so there is somebody to take the job.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(whole);
        }
    }
}

impl<W> Drop for Worker<W> {
    /// Lets the thread end its jobs, without waiting for it: a job may itself wait for the control thread.
    fn drop(&mut self) {
        self.jobs = None;
        self.thread = None;
    }
}
