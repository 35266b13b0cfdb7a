//! `slo-guard`: keeps latency objectives by retuning the shares of the channels that miss them.
//!
//! A channel is watched when it has an objective (`channel create --objective …`, or by a policy such as `tiers`). Once a second
//! what it measured is held against it:
//!
//! ```text
//!   latency above the objective      raise_after times in a row ─► share × step   up to share_max
//!   latency below `comfort` of it    lower_after times in a row ─► share ÷ step   down to what it had
//!   in between                       both counts begin again: nothing moves
//! ```
//!
//! The gap between the objective and `comfort`, and that lowering takes longer than raising, keep it from swinging to and fro: a
//! share that was lowered too far is raised once, and stays. Shares are weights over what reservations leave, so raising one
//! takes from nobody's promise. What a share cannot help is left alone and said in the log: a channel that its own limit holds
//! back, one that has all of `share_max` already.
//!
//! The share that a channel had when it was first seen is where it comes back to. When somebody else changes it, that is the
//! new one. What is known of each channel is left to a successor when the plugin is replaced.
//!
//! The configuration is TOML, and may be empty. These are the values that it has then:
//!
//! ```toml
//! raise_after = 3            # seconds
//! lower_after = 30           # seconds
//! comfort_permille = 600     # of the objective
//! step_permille = 1500       # of the share
//! share_max = 2000
//! requests_min = 20          # a period with fewer says nothing about a percentile
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vfiomux_plugin::{
    Amendments, ChannelTelemetry, Guarantees, Host, InitRequest, Objective, Policy, Retunes, TickRequest,
    export_policy,
};

mod watch;

use watch::{Finding, Watch};

/// How it reacts.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    raise_after: u32,
    lower_after: u32,
    comfort_permille: u64,
    step_permille: u32,
    share_max: u32,
    requests_min: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            raise_after: 3,
            lower_after: 30,
            comfort_permille: 600,
            step_permille: 1500,
            share_max: 2000,
            requests_min: 20,
        }
    }
}

impl Settings {
    fn complaint(&self) -> Option<&'static str> {
        if self.raise_after == 0 || self.lower_after == 0 {
            return Some("raise_after and lower_after are at least 1");
        }
        if self.comfort_permille >= 1000 {
            return Some(
                "comfort_permille is below 1000: the gap to the objective is what keeps shares from swinging",
            );
        }
        if self.step_permille <= 1000 {
            return Some("step_permille is above 1000, or a share would not grow");
        }
        if !(1..=Guarantees::SHARE_MAX).contains(&self.share_max) {
            return Some("share_max is from 1 to 10000");
        }
        None
    }
}

/// The policy, with what it knows of each channel, by id.
#[derive(Debug)]
pub struct SloGuard {
    settings: Settings,
    watched: BTreeMap<String, Watch>,
    host: Host,
}

/// What is left to a successor.
#[derive(Serialize, Deserialize)]
struct State {
    watched: BTreeMap<String, Watch>,
}

impl SloGuard {
    fn look_at(&mut self, did: &ChannelTelemetry, objective: Objective) -> Amendments {
        let ChannelTelemetry { channel, .. } = did;
        let present = channel.guarantees.weight();
        let watch = self.watched.entry(channel.id.clone()).or_insert_with(|| Watch::new(present));
        watch.notice(present);
        let finding = Finding::of(did, objective, &self.settings);
        match watch.decide(finding, &self.settings) {
            watch::Decision::Share(share) => return Amendments::none().share(share),
            watch::Decision::Helpless if watch.complains() => {
                let why = match finding {
                    Finding::Limited => "its own limit holds it back",
                    _ => "it has all of share_max already",
                };
                self.host.warn(format!("{} misses its objective, and {why}", channel.name));
            }
            watch::Decision::Helpless | watch::Decision::Nothing => {}
        }
        Amendments::none()
    }
}

impl Policy for SloGuard {
    fn init(request: &InitRequest, host: &Host) -> Result<Self, String> {
        let settings: Settings = toml::from_str(&request.configuration).map_err(|error| error.to_string())?;
        if let Some(complaint) = settings.complaint() {
            return Err(complaint.to_owned());
        }
        Ok(Self { settings, watched: BTreeMap::new(), host: host.clone() })
    }

    fn tick(&mut self, request: &TickRequest, retunes: &mut Retunes) {
        let objective = |did: &ChannelTelemetry| did.channel.guarantees.objective;
        self.watched.retain(|id, _| {
            request.channels.iter().any(|did| did.channel.id == *id && objective(did).is_some())
        });
        for did in &request.channels {
            if let Some(objective) = objective(did) {
                retunes.set(&did.channel, self.look_at(did, objective));
            }
        }
    }

    fn save(&self) -> Option<Vec<u8>> {
        toml::to_string(&State { watched: self.watched.clone() }).ok().map(String::into_bytes)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let text = str::from_utf8(state).map_err(|error| error.to_string())?;
        let State { watched } = toml::from_str(text).map_err(|error| error.to_string())?;
        self.watched = watched;
        Ok(())
    }
}

export_policy!(SloGuard);

#[cfg(test)]
mod tests;
