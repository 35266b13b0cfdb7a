//! Changing which policies there are while questions go on.
//!
//! A chain belongs to one thread, which asks one question at a time: whatever changes here, changes between two questions.

use std::time::{Duration, Instant};

use super::{Chain, Link};
use crate::{Create, Excerpt, PluginEvent, PluginState, Policy, Question as _, Verdict};

/// A running host is looked at this often.
const WATCH: Duration = Duration::from_secs(1);

/// Why policies cannot be changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The name is taken.
    #[error("a policy named {name} is loaded; choose another name, or replace that one")]
    Taken {
        /// The name.
        name: String,
    },
    /// There is no such plugin.
    #[error("no plugin is named {name}; see vfiomuxctl plugin list")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The successor could not be put on record. Its predecessor stays.
    #[error("the new {name} does not take its place, which could not be put on record: {why}")]
    Unrecorded {
        /// The name.
        name: String,
        /// What went wrong.
        why: String,
    },
    /// The successor failed while it was asked about the channels that there are. Its predecessor stays.
    #[error("the new {name} does not answer: {why}")]
    Unanswered {
        /// The name.
        name: String,
        /// What went wrong.
        why: String,
    },
}

/// What replacing a plugin did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The channels about which the two differ.
    pub differences: Vec<Difference>,
    /// So many channels were asked about.
    pub channels: usize,
    /// What became of the predecessor's state.
    pub state: StateOffer,
}

/// A channel about which a plugin and its successor differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The channel's name.
    pub channel: String,
    /// What the present one says to its coming to be as it is.
    pub before: Verdict,
    /// What the new one says.
    pub after: Verdict,
}

/// What became of the state that a predecessor offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateOffer {
    /// There was none.
    None,
    /// It was taken over.
    Taken {
        /// So long it was.
        bytes: usize,
    },
    /// It was of no use.
    Refused {
        /// Why.
        why: String,
    },
}

impl Chain {
    /// Adds a plugin, to be asked after those of a lower or the same order.
    ///
    /// # Errors
    /// [`ChainError::Taken`].
    pub fn load(&mut self, order: i32, policy: Box<dyn Policy>) -> Result<(), ChainError> {
        if self.names().any(|name| name == policy.name()) {
            return Err(ChainError::Taken { name: policy.name().to_owned() });
        }
        self.insert(order, policy);
        Ok(())
    }

    /// Takes a plugin out and ends it.
    ///
    /// # Errors
    /// [`ChainError::Unknown`], also for the built-in policy, which always holds.
    pub fn unload(&mut self, name: &str) -> Result<(), ChainError> {
        let mut policy = self.remove(name).ok_or_else(|| ChainError::Unknown { name: name.to_owned() })?;
        self.events.append(&mut policy.take_events());
        policy.end();
        Ok(())
    }

    /// Puts another policy into the place of a plugin.
    ///
    /// The new one is offered the present one's state, and both are asked about every channel that there is, as it is. Where that
    /// is all that was wanted (`dry_run`), the new one is ended. Otherwise it takes the place, between two questions, as soon as
    /// `record` has made durable that it has it: nothing can go wrong from there on but a crash, and who comes after that reads
    /// whose the place is.
    ///
    /// # Errors
    /// There is no such plugin, the new one does not answer, or it cannot be put on record; the present one stays.
    pub fn replace(
        &mut self,
        name: &str,
        mut successor: Box<dyn Policy>,
        channels: &[Create],
        dry_run: bool,
        record: impl FnOnce() -> Result<(), String>,
    ) -> Result<Replaced, ChainError> {
        let found = self.links.iter_mut().skip(1).find(|link| link.policy.name() == name);
        let Some(Link { policy: present, .. }) = found else {
            successor.end();
            return Err(ChainError::Unknown { name: name.to_owned() });
        };
        let state = match present.save() {
            None => StateOffer::None,
            Some(state) => match successor.restore(&state) {
                Ok(()) => StateOffer::Taken { bytes: state.len() },
                Err(why) => StateOffer::Refused { why },
            },
        };
        let unanswered = |why| ChainError::Unanswered { name: name.to_owned(), why };
        let unrecorded = |why| ChainError::Unrecorded { name: name.to_owned(), why };
        let compared = compare(present.as_mut(), successor.as_mut(), channels).map_err(unanswered);
        let recorded = compared.and_then(|differences| {
            if !dry_run {
                record().map_err(unrecorded)?;
            }
            Ok(differences)
        });
        let differences = match recorded {
            Ok(differences) => differences,
            Err(error) => {
                successor.end();
                return Err(error);
            }
        };
        let mut leaving = if dry_run { successor } else { std::mem::replace(present, successor) };
        if !dry_run {
            // Who listens to the one listens to the other.
            if let (Some(theirs), Some(ours)) = (leaving.recorder(), present.recorder()) {
                std::mem::swap(theirs, ours);
            }
            self.events.append(&mut leaving.take_events());
        }
        leaving.end();
        Ok(Replaced { differences, channels: channels.len(), state })
    }

    /// What a plugin was asked and answered after line `since`, and has what comes noted for a while.
    ///
    /// # Errors
    /// [`ChainError::Unknown`].
    pub fn recording(&mut self, name: &str, since: Option<u64>, now: Instant) -> Result<Excerpt, ChainError> {
        let mut named = self.links.iter_mut().filter(|link| link.policy.name() == name);
        let recorder = named.find_map(|link| link.policy.recorder());
        let recorder = recorder.ok_or_else(|| ChainError::Unknown { name: name.to_owned() })?;
        Ok(recorder.excerpt(since, now))
    }

    /// Looks after all plugins: notices who died, starts again whose pause is over. To be called when
    /// [`Chain::maintenance_in`] is over.
    pub fn maintain(&mut self, now: Instant) {
        self.links.iter_mut().for_each(|link| link.policy.maintain(now));
    }

    /// How long there is nothing to look after; none when there is no plugin at all.
    #[must_use]
    pub fn maintenance_in(&self, now: Instant) -> Option<Duration> {
        let plugins = self.links.iter().filter(|link| link.policy.state().is_some());
        plugins
            .map(|link| link.policy.due().map_or(WATCH, |due| due.saturating_duration_since(now).min(WATCH)))
            .min()
    }

    /// Every plugin as it is, in the order in which they are asked.
    #[must_use]
    pub fn states(&self) -> Vec<PluginState> {
        let state = |link: &Link| Some(PluginState { order: link.order, ..link.policy.state()? });
        self.links.iter().filter_map(state).collect()
    }

    /// What happened to plugins since the last call.
    pub fn take_events(&mut self) -> Vec<PluginEvent> {
        let mut events = std::mem::take(&mut self.events);
        self.links.iter_mut().for_each(|link| events.append(&mut link.policy.take_events()));
        events
    }
}

/// The channels about which two policies differ, or why the second does not answer.
fn compare(
    present: &mut dyn Policy,
    successor: &mut dyn Policy,
    channels: &[Create],
) -> Result<Vec<Difference>, String> {
    let mut differences = Vec::new();
    for question in channels {
        let question = Create { dry_run: true, ..question.clone() };
        let after = effect(&question, successor);
        if let Verdict::Unanswered { why } = after {
            return Err(why);
        }
        let before = effect(&question, present);
        if before != after {
            differences.push(Difference { channel: question.channel.name, before, after });
        }
    }
    Ok(differences)
}

/// What a policy says to a channel; an amendment that changes nothing is none.
fn effect(question: &Create, policy: &mut dyn Policy) -> Verdict {
    match question.put(policy) {
        Verdict::Amend(amendments) => {
            let mut amended = question.clone();
            match amendments.iter().try_for_each(|&amendment| amended.amend(amendment)) {
                Ok(()) if amended == *question => Verdict::Allow,
                Ok(()) => Verdict::Amend(amendments),
                Err(error) => Verdict::deny(error.to_string()),
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
