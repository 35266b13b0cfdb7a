//! A bound on how long an endpoint may take to answer.
//!
//! The crate `vhost` waits for an answer without end, and takes a time-out of the socket for a reason to wait again. What it does
//! understand is the end of a connection: so somebody who watches the time shuts the connection down.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::FrontendError;

/// Longer than any server that is alive takes to map memory and start a queue.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shuts a connection down when it has not been told in time that all is well.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Dropped when the answer is there.
    done: Sender<()>,
    watch: JoinHandle<bool>,
}

impl Patience {
    pub(crate) fn new(stream: &UnixStream) -> io::Result<Self> {
        Self::of(stream, PATIENCE)
    }

    fn of(stream: &UnixStream, limit: Duration) -> io::Result<Self> {
        let stream = stream.try_clone()?;
        let (done, wait) = channel::<()>();
        let watch = move || {
            let late = wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            // A connection that is gone already needs no shutting down.
            if late { stream.shutdown(Shutdown::Both).is_ok() } else { false }
        };
        let watch = std::thread::Builder::new().name("patience".to_owned()).spawn(watch)?;
        Ok(Self { done, watch })
    }

    /// What came of it: `outcome`, or that there was no answer in time.
    pub(crate) fn judge<T>(self, path: &Path, outcome: Result<T, FrontendError>) -> Result<T, FrontendError> {
        drop(self.done);
        let late = self.watch.join().unwrap_or(false);
        outcome.map_err(|error| match late {
            true => FrontendError::NoAnswer { path: path.to_owned(), seconds: PATIENCE.as_secs() },
            false => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_silent_endpoint_is_hung_up_on_and_named() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let patience = Patience::of(&ours, Duration::ZERO).unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap(), 0, "the connection ends");
        let judged = patience.judge(Path::new("x.sock"), Err::<(), _>(FrontendError::TooLong));
        assert!(matches!(judged, Err(FrontendError::NoAnswer { .. })));
    }

    #[test]
    fn an_answer_in_time_is_passed_on() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let patience = Patience::new(&ours).unwrap();
        assert_eq!(patience.judge(Path::new("x.sock"), Ok(1)).unwrap(), 1);
        ours.set_nonblocking(true).unwrap();
        assert!((&ours).read(&mut [0]).is_err(), "still open");
    }
}
