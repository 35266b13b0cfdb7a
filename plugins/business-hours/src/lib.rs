//! `business-hours`: guarantees by the time of day.
//!
//! ```toml
//! utc_offset = "+01:00"
//!
//! [[rules]]
//! labels = { use = "batch" }         # channels with all of these; without it, any
//! tenants = ["acme", "house"]        # and of these tenants; without it, any
//!
//! [[rules.windows]]
//! days = ["mon", "tue", "wed", "thu", "fri"]   # without it, every day
//! from = "08:00"
//! to = "18:00"
//! terms = { share = 20, bytes = { per_second = 100000000 } }
//!
//! [rules.otherwise]
//! share = 100
//! bytes = { per_second = 0 }         # no limit
//! ```
//!
//! The first rule that a channel fits is its rule, and the first window that the time is in gives its terms; outside all of
//! them `otherwise` does, which therefore names all that the windows name. What no rule names is left alone. A window may
//! go over midnight, and then belongs to the day on which it begins; `from` equal to `to` is the whole day.
//!
//! The time is the host's clock at a tick, at a fixed offset from UTC: there is no summer time in it. Nothing is kept between
//! ticks, so a clock that jumps, or a daemon that was away, is put right at the next one.

use std::collections::BTreeMap;

use serde::Deserialize;
use vfiomux_plugin::{Channel, Host, InitRequest, Policy, Retunes, Terms, TickRequest, export_policy};

mod clock;

use clock::{Day, Moment, TimeOfDay, UtcOffset};

/// The policy, as configured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusinessHours {
    #[serde(default)]
    utc_offset: UtcOffset,
    rules: Vec<Rule>,
}

/// What some channels get.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    tenants: Option<Vec<String>>,
    windows: Vec<Window>,
    otherwise: Terms,
}

/// What they get at some times.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    days: Option<Vec<Day>>,
    from: TimeOfDay,
    to: TimeOfDay,
    terms: Terms,
}

impl Rule {
    fn fits(&self, channel: &Channel) -> bool {
        let labelled = self.labels.iter().all(|(key, value)| channel.label(key) == Some(value));
        labelled && self.tenants.as_ref().is_none_or(|tenants| tenants.contains(&channel.tenant))
    }

    fn terms(&self, now: Moment) -> &Terms {
        let window = self.windows.iter().find(|window| window.contains(now));
        window.map_or(&self.otherwise, |window| &window.terms)
    }

    fn complaint(&self) -> Option<String> {
        let mut terms = self.windows.iter().map(|window| &window.terms);
        if !terms.clone().all(|terms| self.otherwise.names_all_of(terms)) {
            return Some("otherwise must name all that a window names, or it would stay for ever".to_owned());
        }
        terms.find_map(Terms::complaint).or_else(|| self.otherwise.complaint())
    }
}

impl Window {
    fn contains(&self, now: Moment) -> bool {
        let on = |day: Day| self.days.as_ref().is_none_or(|days| days.contains(&day));
        let Moment { day, time } = now;
        if self.from < self.to {
            on(day) && (self.from..self.to).contains(&time)
        } else {
            // Over midnight: the evening of the day it begins on, or the morning after.
            (time >= self.from && on(day)) || (time < self.to && on(day.before()))
        }
    }
}

impl Policy for BusinessHours {
    fn init(request: &InitRequest, _: &Host) -> Result<Self, String> {
        let policy: Self = toml::from_str(&request.configuration).map_err(|error| error.to_string())?;
        let numbered = policy.rules.iter().zip(1..);
        let complaint = numbered
            .filter_map(|(rule, number)| Some(format!("rule {number}: {}", rule.complaint()?)))
            .next();
        complaint.map_or(Ok(policy), Err)
    }

    fn tick(&mut self, request: &TickRequest, retunes: &mut Retunes) {
        let now = Moment::new(request.unix_seconds, self.utc_offset);
        for telemetry in &request.channels {
            let channel = &telemetry.channel;
            if let Some(rule) = self.rules.iter().find(|rule| rule.fits(channel)) {
                retunes.set(channel, rule.terms(now).amendments(&channel.guarantees));
            }
        }
    }
}

export_policy!(BusinessHours);

#[cfg(test)]
mod tests;
