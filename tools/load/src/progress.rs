use std::io::{self, IsTerminal, Write as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(200);

/// Says on standard error, where that is a terminal, that a run goes on and for how long. Ends, and leaves nothing there, when dropped.
#[derive(Debug)]
pub struct Progress {
    /// Dropped at the end.
    end: Option<Sender<()>>,
    shown: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to say that `what` is being done, which takes `expected` if that is known.
    #[must_use]
    pub fn begin(what: &str, expected: Option<Duration>) -> Self {
        if !io::stderr().is_terminal() {
            return Self { end: None, shown: None };
        }
        let (end, ended) = channel::<()>();
        let what = what.to_owned();
        let started = Instant::now();
        let show = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                say(&line(&what, started.elapsed(), expected));
            }
            say("");
        };
        // Where no thread is to be had, nobody is shown anything; the run itself says what is wrong.
        let shown = thread::Builder::new().name("progress".to_owned()).spawn(show).ok();
        Self { end: Some(end), shown }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(shown) = self.shown.take() {
            // It has nothing to say that anybody would miss.
            let _ = shown.join();
        }
    }
}

fn line(what: &str, elapsed: Duration, expected: Option<Duration>) -> String {
    let of = expected.map_or_else(String::new, |expected| format!(" of {}", expected.as_secs().max(1)));
    format!("{what}: {}{of} s (Ctrl-C ends it with a report)", elapsed.as_secs())
}

/// Puts a line in the place of the one before. Whoever closed the terminal does not read it.
fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_an_expected_end_says_how_long_it_goes_on() {
        let seconds = Duration::from_secs;
        assert!(line("a.sock", seconds(3), Some(seconds(11))).starts_with("a.sock: 3 of 11 s"));
        assert!(line("a.sock", seconds(3), None).starts_with("a.sock: 3 s"));
    }
}
