//! Freeing a sidecore that a front-end holds up (ISO2).
//!
//! A call descriptor's open file is shared with its front-end, which can make it block again after we made it not, and let
//! its counter run full: then the sidecore's write to it waits for a reader. There is no write that cannot be made to wait
//! so, short of a system call a request. But whoever has the descriptor can be that reader: a sidecore that is awake and
//! takes no breath is looked at, the descriptor that is full is emptied, and its channel is quarantined.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;

use super::Control;

/// Looks without a breath after which a sidecore counts as held up. It may just not have had a processor.
const LOOKS_MAX: u32 = 2;

impl Control {
    /// Looks whether every sidecore that is awake breathes.
    pub(crate) fn watch_breaths(&mut self) {
        for index in 0..self.lines.len() {
            let Some(line) = self.lines.get_mut(index) else { continue };
            let breaths = line.handle.counters().breaths.get();
            let breathes = breaths != line.last_breaths || line.handle.is_asleep();
            line.last_breaths = breaths;
            line.looks = if breathes { 0 } else { line.looks + 1 };
            if line.looks >= LOOKS_MAX {
                line.looks = 0;
                self.free_line(index);
            }
        }
    }

    fn free_line(&mut self, index: usize) {
        let mut culprits = Vec::new();
        for (id, channel) in &self.channels {
            let here = channel.seat.as_ref().is_some_and(|seat| seat.line == index);
            let live = channel.attachment.as_ref().and_then(|attachment| attachment.live.as_ref());
            let Some(live) = live.filter(|_| here) else { continue };
            if live.calls.values().filter(|call| empty_if_full(call)).count() > 0 {
                culprits.push(id.clone());
            }
        }
        for id in culprits {
            self.quarantine(&id, "its front-end made the interrupt descriptor block the sidecore");
        }
    }
}

/// Empties an eventfd that cannot be written to. Gives whether it was so.
fn empty_if_full(call: &Arc<OwnedFd>) -> bool {
    let mut poll = [PollFd::new(call, PollFlags::OUT)];
    let full = matches!(rustix::event::poll(&mut poll, Some(&Timespec::default())), Ok(0));
    if full {
        // Whoever made it block may do so again: then the next look empties it again, until the channel is gone.
        let _ = rustix::fs::fcntl_setfl(call, OFlags::NONBLOCK);
        let _ = rustix::io::read(call, &mut [0u8; 8]);
    }
    full
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn only_a_full_descriptor_is_emptied_and_a_writer_comes_free() {
        let call = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        rustix::io::write(&call, &1u64.to_ne_bytes()).unwrap();
        assert!(!empty_if_full(&call));
        rustix::io::write(&call, &(u64::MAX - 2).to_ne_bytes()).unwrap();
        let writer = {
            let call = call.clone();
            std::thread::spawn(move || rustix::io::write(&call, &1u64.to_ne_bytes()))
        };
        // The writer blocks sooner or later; emptying before it does leaves it nothing to wait for either.
        assert!(empty_if_full(&call));
        assert_eq!(writer.join().unwrap(), Ok(8));
    }
}
