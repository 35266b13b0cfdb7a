use std::hint::black_box;
use std::process;
use std::thread;
use std::time::Duration;

use vfiomux_plugin::{Amendments, Channel, Host, Setting, Verdict};

use crate::lies::{self, Lie};
use crate::probe;

/// What the policy is asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Init,
    Discover,
    Claim,
    Create,
    Attach,
    Session,
    Tune,
    Tick,
    Pressure,
    Fault,
    Migrate,
    Destroy,
    Save,
    Restore,
}

impl Hook {
    pub(crate) const COUNT: usize = NAMES.len();

    fn name(self) -> &'static str {
        NAMES.iter().find(|(_, hook)| *hook == self).map_or("", |(name, _)| name)
    }
}

const NAMES: [(&str, Hook); 14] = [
    ("init", Hook::Init),
    ("discover", Hook::Discover),
    ("claim", Hook::Claim),
    ("create", Hook::Create),
    ("attach", Hook::Attach),
    ("session", Hook::Session),
    ("tune", Hook::Tune),
    ("tick", Hook::Tick),
    ("pressure", Hook::Pressure),
    ("fault", Hook::Fault),
    ("migrate", Hook::Migrate),
    ("destroy", Hook::Destroy),
    ("save", Hook::Save),
    ("restore", Hook::Restore),
];

/// A line of the configuration.
#[derive(Debug)]
pub(crate) struct Rule {
    /// None for any hook but `init`.
    hook: Option<Hook>,
    pub(crate) action: Action,
    /// Calls of the hook before it fits.
    pub(crate) after: u64,
}

impl Rule {
    pub(crate) fn fits(&self, hook: Hook) -> bool {
        self.hook.map_or(hook != Hook::Init, |named| named == hook)
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Allow,
    Deny(String),
    Amend(Amendments),
    Retune(Amendments),
    Stale(Amendments),
    Stranger(Amendments),
    Log(String),
    Hang,
    Spin,
    Slow(Duration),
    Panic,
    Crash,
    Segfault,
    Exit,
    Balloon,
    Recurse,
    Lie(Lie),
    Probe,
}

/// The configuration's lines.
pub(crate) fn parse(configuration: &str) -> Result<Vec<Rule>, String> {
    let lines = configuration.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(rule).collect()
}

/// What a channel's labels order in a hook, if they do; an order that makes no sense denies and says so.
pub(crate) fn from_labels(hook: Hook, channel: &Channel) -> Option<Action> {
    let text = channel.label(&format!("faulty-{}", hook.name())).or_else(|| channel.label("faulty"))?;
    let words: Vec<&str> = match text {
        whole if whole.starts_with("lie-") => vec![whole],
        spaced => spaced.split('-').collect(),
    };
    Some(action(&words).unwrap_or_else(Action::Deny))
}

fn rule(line: &str) -> Result<Rule, String> {
    let wrong = || format!("{line:?} is no order, such as \"create hang after 2\"");
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let mut after = 0;
    if let [.., "after", count] = words[..] {
        after = count.parse().map_err(|_| wrong())?;
        words.truncate(words.len() - 2);
    }
    let [hook, rest @ ..] = &words[..] else { return Err(wrong()) };
    let hook = match *hook {
        "any" => None,
        name => Some(NAMES.iter().find(|(known, _)| *known == name).ok_or_else(wrong)?.1),
    };
    Ok(Rule { hook, action: action(rest)?, after })
}

fn action(words: &[&str]) -> Result<Action, String> {
    let amendments = |setting: &str, value: &str| {
        let number = setting.parse().ok().map(Setting).or_else(|| Setting::named(setting));
        match (number, value.parse()) {
            (Some(setting), Ok(value)) => Ok(Amendments::none().set(setting, value)),
            _ => Err(format!("{setting} {value} is no setting with its number")),
        }
    };
    Ok(match *words {
        ["allow"] => Action::Allow,
        ["deny"] => Action::Deny("faulty was told to deny".to_owned()),
        ["deny", ref reason @ ..] => Action::Deny(reason.join(" ")),
        ["amend", setting, value] => Action::Amend(amendments(setting, value)?),
        ["retune", setting, value] => Action::Retune(amendments(setting, value)?),
        ["stale", setting, value] => Action::Stale(amendments(setting, value)?),
        ["stranger", setting, value] => Action::Stranger(amendments(setting, value)?),
        ["log", ref line @ ..] => Action::Log(line.join(" ")),
        ["hang"] => Action::Hang,
        ["spin"] => Action::Spin,
        ["slow", milliseconds] => {
            let milliseconds = milliseconds.parse().map_err(|_| format!("{milliseconds} is no number"))?;
            Action::Slow(Duration::from_millis(milliseconds))
        }
        ["panic"] => Action::Panic,
        ["crash"] => Action::Crash,
        ["segfault"] => Action::Segfault,
        ["exit"] => Action::Exit,
        ["balloon"] => Action::Balloon,
        ["recurse"] => Action::Recurse,
        ["lie"] => Action::Lie(Lie::Number),
        ["lie-settings"] => Action::Lie(Lie::Settings),
        ["lie-values"] => Action::Lie(Lie::Values),
        ["lie-reason"] => Action::Lie(Lie::Reason),
        ["lie-silent"] => Action::Lie(Lie::Silent),
        ["lie-empty"] => Action::Lie(Lie::Empty),
        ["flood"] => Action::Lie(Lie::Flood),
        ["probe"] => Action::Probe,
        ref other => return Err(format!("{:?} is nothing that faulty can do", other.join(" "))),
    })
}

impl Action {
    /// Does it.
    pub(crate) fn verdict(self, host: &Host) -> Verdict {
        match self {
            Self::Allow | Self::Retune(_) | Self::Stale(_) | Self::Stranger(_) => Verdict::Allow,
            Self::Deny(reason) => Verdict::Deny(reason),
            Self::Amend(amendments) => amendments.into(),
            Self::Log(line) => {
                host.info(line);
                Verdict::Allow
            }
            Self::Hang => loop {
                thread::sleep(Duration::from_secs(3600));
            },
            Self::Spin => {
                let mut turns = 0_u64;
                loop {
                    turns = black_box(turns.wrapping_add(1));
                }
            }
            Self::Slow(time) => {
                thread::sleep(time);
                Verdict::Allow
            }
            Self::Panic => panic!("faulty was told to panic"),
            Self::Crash => process::abort(),
            Self::Segfault => probe::write_to_null(),
            Self::Exit => process::exit(0),
            Self::Balloon => balloon(),
            Self::Recurse => Verdict::deny(recurse(0).to_string()),
            Self::Lie(Lie::Flood) => {
                (0..lies::FLOOD).for_each(|line| host.warn(format!("faulty floods the log, line {line}")));
                lies::order(Lie::Flood);
                Verdict::Allow
            }
            Self::Lie(lie) => {
                lies::order(lie);
                Verdict::Allow
            }
            Self::Probe => Verdict::Deny(probe::probe()),
        }
    }
}

/// Takes memory until there is none. Each page is written, so that it is truly taken.
fn balloon() -> ! {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(black_box(vec![0xa5; 1 << 20]));
    }
}

#[expect(unconditional_recursion, reason = "that is the fault")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(black_box(depth + 1)).wrapping_add(frame[7])
}
