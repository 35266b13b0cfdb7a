//! What recorded events have to say, whoever recorded them: tests hold every daemon that they run against it.
//!
//! ```text
//!   events, in their order ──► Monitor::follow ──► the first that could not follow those before it
//! ```
//!
//! A monitor that comes late, or reads of a channel that was rebuilt, takes the first state that it is told of as given.

use std::collections::BTreeMap;

use vfiomux_rpc::{Event, EventKind, ObjectKind, Oper};

use crate::lifecycle::{Life as _, TABLE};

/// What is known from the events so far.
#[derive(Debug, Clone, Default)]
pub struct Monitor {
    last_seq: Option<u64>,
    channels: BTreeMap<String, Oper>,
    functions: BTreeMap<String, String>,
}

/// An event that cannot have happened as it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Numbers go up by one; what is left out is announced.
    #[error("event {seq} follows event {after}")]
    Numbers {
        /// Its number.
        seq: u64,
        /// That of the one before.
        after: u64,
    },
    /// L1: the table has no such arc, or the channel was elsewhere.
    #[error("event {seq}: channel {name} was {} and went from {from} to {to}", at.as_deref().unwrap_or("nowhere"))]
    Channel {
        /// The event's number.
        seq: u64,
        /// The channel's name.
        name: String,
        /// Where it was.
        at: Option<String>,
        /// Where it is said to have come from.
        from: String,
        /// Where it is said to be.
        to: String,
    },
    /// L1: the function was elsewhere.
    #[error("event {seq}: function {name} was {at} and went from {from} to {to}")]
    Function {
        /// The event's number.
        seq: u64,
        /// The function's name.
        name: String,
        /// Where it was.
        at: String,
        /// Where it is said to have come from.
        from: String,
        /// Where it is said to be.
        to: String,
    },
}

impl Monitor {
    /// Holds all events of one reader against what has to hold, and gives the first violation.
    ///
    /// # Errors
    /// That violation.
    pub fn check<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<(), Violation> {
        let mut monitor = Self::default();
        events.into_iter().try_for_each(|event| monitor.follow(event))
    }

    /// Takes note of the next event.
    ///
    /// # Errors
    /// What it breaks.
    pub fn follow(&mut self, event: &Event) -> Result<(), Violation> {
        if let Some(after) = self.last_seq.replace(event.seq).filter(|after| after + 1 != event.seq) {
            return Err(Violation::Numbers { seq: event.seq, after });
        }
        match (event.object.kind, event.kind) {
            (ObjectKind::Channel, EventKind::Daemon) => {
                // It was rebuilt, or forgotten: its life goes on from a state that no step has led to.
                self.channels.remove(&event.object.name);
                Ok(())
            }
            (ObjectKind::Channel, EventKind::Setting) => {
                self.follow_name(event);
                Ok(())
            }
            (ObjectKind::Channel, EventKind::Oper) => self.follow_channel(event),
            (ObjectKind::Device, EventKind::Function) => self.follow_function(event),
            _ => Ok(()),
        }
    }

    /// A renamed channel takes its state along, and ends what was known of who had its new name before.
    fn follow_name(&mut self, event: &Event) {
        let (Some(from), Some(to)) = (&event.from, &event.to) else { return };
        match self.channels.remove(from) {
            Some(at) => self.channels.insert(to.clone(), at),
            None => self.channels.remove(to),
        };
    }

    fn follow_channel(&mut self, event: &Event) -> Result<(), Violation> {
        let name = &event.object.name;
        let (from, to) = (state(event.from.as_deref()), state(event.to.as_deref()));
        let at = self.channels.get(name).copied();
        let follows = match (from, to) {
            // One of this name may have been before, and have come to its end.
            (None, Some(to)) => to == Oper::Defined,
            (Some(from), Some(to)) => {
                let arc = TABLE.iter().any(|&(start, _, end)| (start, end) == (from, to));
                arc && at.is_none_or(|at| at == from)
            }
            (_, None) => false,
        };
        if let Some(to) = to {
            self.channels.insert(name.clone(), to);
        }
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        follows.then_some(()).ok_or_else(|| Violation::Channel {
            seq: event.seq,
            name: name.clone(),
            at: at.map(|at| at.name().to_owned()),
            from: word(&event.from),
            to: word(&event.to),
        })
    }

    fn follow_function(&mut self, event: &Event) -> Result<(), Violation> {
        let (Some(from), Some(to)) = (&event.from, &event.to) else { return Ok(()) };
        let name = event.object.name.clone();
        match self.functions.insert(name.clone(), to.clone()) {
            Some(at) if at != *from => {
                Err(Violation::Function { seq: event.seq, name, at, from: from.clone(), to: to.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// A state by its name in events.
fn state(name: Option<&str>) -> Option<Oper> {
    serde_json::from_value(name?.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::event;

    fn trace(steps: &[(&str, &str)]) -> Vec<Event> {
        let events = (1..).zip(steps).map(|(seq, (from, to))| {
            let mut told = event(EventKind::Oper, ObjectKind::Channel, "disk");
            told.seq = seq;
            (told.from, told.to) =
                (Some((*from).to_owned()).filter(|from| !from.is_empty()), Some((*to).to_owned()));
            told
        });
        events.collect()
    }

    const GOOD: [(&str, &str); 4] =
        [("", "defined"), ("defined", "provisioned"), ("provisioned", "listening"), ("listening", "active")];

    /// L1, with its seeded bug: a suspend that is let through during destroy is caught by the monitor.
    #[test]
    fn a_suspend_during_destroy_is_caught() {
        assert_eq!(Monitor::check(&trace(&GOOD)), Ok(()));
        let bad = trace(&[&GOOD[..], &[("active", "draining"), ("draining", "quiescing")]].concat());
        let violation = Monitor::check(&bad).unwrap_err();
        assert!(
            violation.to_string().contains("was draining and went from draining to quiescing"),
            "{violation}"
        );
    }

    /// L1: an arc of the table is none from where the channel is not.
    #[test]
    fn a_step_that_was_left_out_is_caught() {
        let bad = trace(&[&GOOD[..], &[("listening", "active")]].concat());
        assert!(matches!(Monitor::check(&bad), Err(Violation::Channel { seq: 5, .. })));
    }

    /// L1: a channel is the same under another name, whoever had that before.
    #[test]
    fn a_renamed_channel_goes_on_from_where_it_was() {
        let renamed = |from: &str, to: &str| {
            let mut told = event(EventKind::Setting, ObjectKind::Channel, to);
            (told.from, told.to) = (Some(from.to_owned()), Some(to.to_owned()));
            told
        };
        let step = |name: &str, from: &str, to: &str| {
            let mut told = event(EventKind::Oper, ObjectKind::Channel, name);
            (told.from, told.to) = (Some(from.to_owned()), Some(to.to_owned()));
            told
        };
        let numbered = |mut events: Vec<Event>| {
            (1..).zip(&mut events).for_each(|(seq, event)| event.seq = seq);
            events
        };
        let before = [
            step("other", "scrubbing", "destroyed"),
            step("disk", "provisioned", "listening"),
            renamed("disk", "other"),
        ];
        let good = [&before[..], &[step("other", "listening", "active")]].concat();
        assert_eq!(Monitor::check(&numbered(good)), Ok(()));
        let bad = [&before[..], &[step("other", "active", "provisioned")]].concat();
        assert!(matches!(Monitor::check(&numbered(bad)), Err(Violation::Channel { seq: 4, .. })));
        // Whoever comes late knows nothing of it.
        let late = [&before[..1], &before[2..], &[step("other", "active", "provisioned")]].concat();
        assert_eq!(Monitor::check(&numbered(late)), Ok(()));
    }

    #[test]
    fn a_number_that_was_left_out_is_caught() {
        let mut bad = trace(&GOOD);
        bad.remove(1);
        assert_eq!(Monitor::check(&bad), Err(Violation::Numbers { seq: 3, after: 1 }));
    }

    #[test]
    fn whoever_comes_late_takes_the_first_state_as_given() {
        assert_eq!(Monitor::check(&trace(&GOOD)[2..]), Ok(()));
    }
}
