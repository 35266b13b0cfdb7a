#![expect(unsafe_code, reason = "calls the plugin host's functions")]

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::abi::{self, LogLevel, Text};

/// What the plugin host does for a policy. A copy that outlives the policy does nothing.
#[derive(Clone)]
pub struct Host {
    /// Empty once the instance has ended: the host's word holds no longer.
    raw: Rc<Cell<Option<abi::Host>>>,
}

impl Host {
    /// # Safety
    /// The functions may be called with the context, from this thread, until [`Host::end`].
    pub(crate) unsafe fn new(raw: Option<abi::Host>) -> Self {
        Self { raw: Rc::new(Cell::new(raw)) }
    }

    pub(crate) fn end(&self) {
        self.raw.set(None);
    }

    /// Minor version of the ABI that the host speaks.
    #[must_use]
    pub fn minor(&self) -> u32 {
        self.raw.get().map_or(0, |raw| raw.minor)
    }

    /// Writes a line to the daemon's log: somebody must do something.
    pub fn error(&self, line: impl AsRef<str>) {
        self.log(LogLevel::ERROR, line.as_ref());
    }

    /// Writes a line to the daemon's log: somebody should look.
    pub fn warn(&self, line: impl AsRef<str>) {
        self.log(LogLevel::WARN, line.as_ref());
    }

    /// Writes a line to the daemon's log: worth knowing.
    pub fn info(&self, line: impl AsRef<str>) {
        self.log(LogLevel::INFO, line.as_ref());
    }

    /// Writes a line to the daemon's log, for who writes the plugin.
    pub fn debug(&self, line: impl AsRef<str>) {
        self.log(LogLevel::DEBUG, line.as_ref());
    }

    fn log(&self, level: LogLevel, line: &str) {
        let Some(raw) = self.raw.get() else { return };
        if let Some(log) = raw.log {
            // SAFETY: the instance has not ended, so the host's function may be called with its context; this type is bound
            // to the thread that hooks are called on; the line outlives the call.
            unsafe { log(raw.context, level, Text::new(line)) };
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("minor", &self.minor()).finish()
    }
}
