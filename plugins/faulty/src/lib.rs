//! `faulty`: a policy that does on demand what no policy should, so that tests show that it is contained.
//!
//! # Telling it what to do
//!
//! The configuration is lines of `HOOK ACTION [ARGUMENT …] [after COUNT]`. `HOOK` is `init`, `discover`, `claim`, `create`, `attach`, `session`,
//! `tune`, `tick`, `pressure`, `fault`, `migrate`, `destroy`, `save`, `restore`, or `any` for all of them but `init`. The first line that
//! fits is done; with `after COUNT` it fits only when the hook has been called so often before. What fits no line is allowed.
//!
//! ```text
//! # allows two creations, then hangs in the third
//! create hang after 2
//! tick retune share 700
//! ```
//!
//! A channel can tell it too, by label: `faulty=ACTION` in every hook that is about this channel, and `faulty-HOOK=ACTION` in one, with
//! hyphens for the spaces between arguments (`faulty-tune=deny-because`). A label goes before the configuration.
//!
//! | action | does |
//! |---|---|
//! | `allow` | nothing |
//! | `deny [WORDS …]` | denies, with the words as the reason |
//! | `amend SETTING VALUE` | amends: `amend share 700`, by the names of [`Setting::name`](vfiomux_plugin::Setting::name) or numbers |
//! | `retune SETTING VALUE` | gives that to every channel of a tick or a pressure |
//! | `stale SETTING VALUE` | the same, for a generation that has passed (one less) |
//! | `stranger SETTING VALUE` | the same, for channels that nobody has |
//! | `log [WORDS …]` | writes a line, and allows |
//! | `hang` | sleeps for ever |
//! | `spin` | computes for ever |
//! | `slow MILLISECONDS` | sleeps so long, then allows |
//! | `panic` | panics, which `export_policy!` catches |
//! | `crash` | aborts |
//! | `segfault` | writes to address 0 |
//! | `exit` | ends the process, successfully |
//! | `balloon` | takes memory until there is none, and touches it |
//! | `recurse` | calls itself until there is no stack |
//! | `lie` | answers 77, which is no verdict |
//! | `lie-settings` | amends settings that do not exist |
//! | `lie-values` | amends each setting to the largest number |
//! | `lie-reason` | denies with a reason that is long and no UTF-8 |
//! | `lie-silent` | denies without a reason |
//! | `lie-empty` | amends nothing |
//! | `flood` | gives the sink, or the log, far more than it takes |
//! | `probe` | tries to open a file, a socket and a process, and denies with what worked: `probe: nothing worked` |

mod action;
mod lies;
mod probe;

use vfiomux_plugin::{
    AttachRequest, Channel, ChannelTelemetry, ClaimRequest, CreateRequest, DestroyRequest, DiscoverRequest,
    FaultRequest, Host, InitRequest, MigrateRequest, Policy, PressureRequest, Retunes, SessionRequest,
    TickRequest, TuneRequest, Verdict,
};

use action::{Action, Hook, Rule};

/// The policy, with its orders.
#[derive(Debug)]
pub struct Faulty {
    rules: Vec<Rule>,
    /// How often each hook was called.
    calls: [u64; Hook::COUNT],
    host: Host,
}

impl Faulty {
    /// What to do now in a hook that is about this channel.
    fn action(&mut self, hook: Hook, channel: Option<&Channel>) -> Action {
        let calls = &mut self.calls[hook as usize];
        let before = *calls;
        *calls += 1;
        let ordered = channel.and_then(|channel| action::from_labels(hook, channel));
        let fits = |rule: &&Rule| rule.fits(hook) && before >= rule.after;
        ordered
            .or_else(|| self.rules.iter().find(fits).map(|rule| rule.action.clone()))
            .unwrap_or(Action::Allow)
    }

    fn verdict(&mut self, hook: Hook, channel: Option<&Channel>) -> Verdict {
        self.action(hook, channel).verdict(&self.host)
    }

    fn retune(&mut self, hook: Hook, channels: &[ChannelTelemetry], retunes: &mut Retunes) {
        match self.action(hook, None) {
            Action::Retune(amendments) => {
                for telemetry in channels {
                    retunes.set(&telemetry.channel, amendments.clone());
                }
            }
            Action::Stale(amendments) => {
                for telemetry in channels {
                    let generation = telemetry.channel.generation.wrapping_sub(1);
                    let stale = Channel { generation, ..telemetry.channel.clone() };
                    retunes.set(&stale, amendments.clone());
                }
            }
            Action::Stranger(amendments) => {
                let id = "00000000-0000-4000-8000-000000000000".to_owned();
                retunes.set(&Channel { id, generation: 1, ..Channel::default() }, amendments);
            }
            other => {
                let _ = other.verdict(&self.host);
            }
        }
    }
}

impl Policy for Faulty {
    fn init(request: &InitRequest, host: &Host) -> Result<Self, String> {
        let rules = action::parse(&request.configuration)?;
        let mut faulty = Self { rules, calls: [0; Hook::COUNT], host: host.clone() };
        match faulty.verdict(Hook::Init, None) {
            Verdict::Deny(reason) => Err(reason),
            Verdict::Allow | Verdict::Amend(_) => Ok(faulty),
        }
    }

    fn discover(&mut self, _: &DiscoverRequest) -> Verdict {
        self.verdict(Hook::Discover, None)
    }

    fn claim(&mut self, _: &ClaimRequest) -> Verdict {
        self.verdict(Hook::Claim, None)
    }

    fn create(&mut self, request: &CreateRequest) -> Verdict {
        self.verdict(Hook::Create, Some(&request.channel))
    }

    fn attach(&mut self, request: &AttachRequest) -> Verdict {
        self.verdict(Hook::Attach, Some(&request.channel))
    }

    fn session(&mut self, request: &SessionRequest) -> Verdict {
        self.verdict(Hook::Session, Some(&request.channel))
    }

    fn tune(&mut self, request: &TuneRequest) -> Verdict {
        self.verdict(Hook::Tune, Some(&request.wanted))
    }

    fn tick(&mut self, request: &TickRequest, retunes: &mut Retunes) {
        self.retune(Hook::Tick, &request.channels, retunes);
    }

    fn pressure(&mut self, request: &PressureRequest, retunes: &mut Retunes) {
        self.retune(Hook::Pressure, &request.channels, retunes);
    }

    fn fault(&mut self, request: &FaultRequest, _: &mut Retunes) -> Verdict {
        self.verdict(Hook::Fault, request.channel.as_ref())
    }

    fn migrate(&mut self, request: &MigrateRequest) -> Verdict {
        self.verdict(Hook::Migrate, Some(&request.channel))
    }

    fn destroy(&mut self, request: &DestroyRequest) -> Verdict {
        self.verdict(Hook::Destroy, Some(&request.channel))
    }

    /// How often each hook was called, so that a successor counts on.
    fn save(&self) -> Option<Vec<u8>> {
        let action = self.rules.iter().find(|rule| rule.fits(Hook::Save)).map(|rule| rule.action.clone());
        match action.map(|action| action.verdict(&self.host)) {
            Some(Verdict::Deny(_)) => None,
            _ => Some(self.calls.iter().flat_map(|count| count.to_le_bytes()).collect()),
        }
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        if let Verdict::Deny(reason) = self.verdict(Hook::Restore, None) {
            return Err(reason);
        }
        let (counts, rest) = state.as_chunks::<8>();
        if counts.len() != Hook::COUNT || !rest.is_empty() {
            return Err("it is no state of faulty".to_owned());
        }
        for (calls, count) in self.calls.iter_mut().zip(counts) {
            *calls = u64::from_le_bytes(*count);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
