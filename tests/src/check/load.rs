//! Verified I/O that goes on for as long as a test does something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{CheckError, Initial, Options, Outcome};

/// A thread that runs session after session on one disk, each of which expects what the last one left. Dropped, it ends too, but
/// only [`Load::end`] tells what came of it.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    /// Sessions that have ended.
    sessions: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Outcome, CheckError>>>,
}

impl Load {
    /// Begins. `options` are those of one session: seeds count on from there. With [`Options::remember`], what the disk must
    /// hold is remembered from session to session.
    ///
    /// # Panics
    ///
    /// When there is no thread to be had.
    #[must_use]
    pub fn begin(options: Options) -> Load {
        let (stop, sessions) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, counted) = (stop.clone(), sessions.clone());
        let run = move || {
            let (mut total, mut options) = (Outcome::default(), options);
            loop {
                total.add(&super::run(&options)?);
                counted.fetch_add(1, Ordering::Relaxed);
                options.seed += 1;
                if let Some(path) = &options.remember {
                    options.initial = Initial::Remembered(path.clone());
                }
                if told.load(Ordering::Relaxed) {
                    return Ok(total);
                }
            }
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(run);
        Load { stop, sessions, thread: Some(thread.expect("a thread")) }
    }

    /// Waits until it has ended so many sessions more, which were then served from beginning to end.
    ///
    /// # Panics
    ///
    /// When a session fails, with why, or does not end within `patience`.
    #[track_caller]
    pub fn wait_for_sessions(&mut self, more: u64, patience: Duration) {
        let deadline = Instant::now() + patience;
        // The one under way has begun before.
        let wanted = self.sessions.load(Ordering::Relaxed) + more + 1;
        while self.sessions.load(Ordering::Relaxed) < wanted {
            if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
                panic!("{}", self.join().expect_err("it was not told to end"));
            }
            assert!(Instant::now() < deadline, "the load does not come on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Has it end with the session under way: what was done in all.
    ///
    /// # Panics
    ///
    /// When a request failed or anything that was read was wrong.
    #[track_caller]
    pub fn end(mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        self.join().unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn join(&mut self) -> Result<Outcome, CheckError> {
        let thread = self.thread.take().expect("it is waited for once");
        thread.join().expect("the load says what is wrong, and does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
