//! The configuration file: TOML, every key checked.

mod admission;
mod balance;
mod plugins;
mod sidecores;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vfiomux_rpc::Roles;

pub use self::admission::{Admission, DeviceAdmission, Overcommit, OvercommitError};
pub use self::balance::Balance;
pub use self::plugins::Plugin;
pub use self::sidecores::{ModeError, SidecoreCpu, SidecoreCpuError, Sidecores, parse_mode};

/// What an operator may set. Command-line flags win over the file, the file over the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Functions to own: PCI addresses, or devices without hardware: `sim:nvme,…`, `ram:…`, `null:…`.
    pub devices: Vec<String>,
    /// Where the journal lives.
    pub state_dir: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// Own functions that no IOMMU keeps from this host's memory.
    pub allow_unsafe_noiommu: bool,
    /// The polling threads.
    pub sidecores: Sidecores,
    /// What may be promised of a device.
    pub admission: Admission,
    /// Who may use the control socket.
    pub roles: Roles,
    /// Policy plugins to load at every start.
    pub plugins: Vec<Plugin>,
    /// The program that runs a plugin; when it is empty, `vfiomux-plugin-host` beside the daemon's own.
    pub plugin_host: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            state_dir: "/var/lib/vfiomux".into(),
            control: "/run/vfiomux/control.sock".into(),
            allow_unsafe_noiommu: false,
            sidecores: Sidecores::default(),
            admission: Admission::default(),
            roles: Roles::default(),
            plugins: Vec::new(),
            plugin_host: PathBuf::new(),
        }
    }
}

/// A configuration that cannot be used. The message names the file, the key and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}; give the right path with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not TOML, or a value has the wrong type.
    #[error("{}: {what}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why, as the parser says it.
        what: String,
    },
    /// A key that means nothing.
    #[error("{}: there is no setting {key:?}{hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key, with its tables.
        key: String,
        /// The nearest known key, or all that there are.
        hint: String,
    },
    /// A plugin that cannot be loaded as it is written.
    #[error("{}: plugin {name:?}: {what}", path.display())]
    Plugin {
        /// The file.
        path: PathBuf,
        /// What it is called there.
        name: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Reads a text; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |what: toml::de::Error| ConfigError::Parse {
            path: path.to_owned(),
            what: what.to_string().trim_end().to_owned(),
        };
        let given: toml::Table = toml::from_str(text).map_err(wrong)?;
        // The defaults, written out, are the list of all keys: it cannot fall behind the types.
        let known = toml::Table::try_from(Self::default()).unwrap_or_default();
        unknown_key(&given, &known, "").map_or(Ok(()), |(key, hint)| {
            Err(ConfigError::UnknownKey { path: path.to_owned(), key, hint })
        })?;
        let config: Self = toml::from_str(text).map_err(wrong)?;
        for (index, plugin) in config.plugins.iter().enumerate() {
            let twice = config.plugins.iter().skip(index + 1).any(|other| other.name == plugin.name);
            let twice = twice.then(|| "there are two of this name; give each its own".to_owned());
            if let Some(what) = plugin.complaint().or(twice) {
                let (path, name) = (path.to_owned(), plugin.name.clone());
                return Err(ConfigError::Plugin { path, name, what });
            }
        }
        Ok(config)
    }
}

fn unknown_key(given: &toml::Table, known: &toml::Table, prefix: &str) -> Option<(String, String)> {
    given.iter().find_map(|(key, value)| match (known.get(key), value) {
        // A table without keys of its own is one of names that the operator chooses; its rows are checked where they are read.
        (Some(toml::Value::Table(known)), _) if known.is_empty() => None,
        (Some(toml::Value::Table(known)), toml::Value::Table(given)) => {
            unknown_key(given, known, &format!("{prefix}{key}."))
        }
        (Some(_), _) => None,
        (None, _) => {
            let nearest = known
                .keys()
                .max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
            let hint = match nearest {
                Some(near) if strsim::jaro_winkler(key, near) > 0.8 => {
                    format!("; did you mean {prefix}{near}?")
                }
                _ => format!(
                    "; there are: {}",
                    known.keys().map(|key| format!("{prefix}{key}")).collect::<Vec<_>>().join(", ")
                ),
            };
            Some((format!("{prefix}{key}"), hint))
        }
    })
}

#[cfg(test)]
mod tests {
    use vfiomux_rpc::SidecoreMode;

    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("vfiomux.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(parse(""), Ok(Config::default()));
    }

    #[test]
    fn what_is_written_is_taken_and_the_rest_is_default() {
        let config = parse(
            "devices = [\"sim:nvme\"]\n[sidecores]\ncpus = [1]\nmode = \"poll\"\n[roles.read]\ngids = [100]",
        )
        .unwrap();
        assert_eq!(
            (config.sidecores.mode, config.sidecores.spin_us, config.roles.read.gids[0]),
            (SidecoreMode::Poll, 50, 100)
        );
    }

    #[test]
    fn tenants_are_named_by_the_operator_and_their_keys_are_checked() {
        let config =
            parse("[roles.tenants.acme]\noperate = { uids = [7] }\nendpoints = \"/run/acme\"").unwrap();
        assert_eq!(config.roles.tenants["acme"].operate.uids, [7]);
        assert!(parse("[roles.tenants.acme]\noperates = { uids = [7] }").unwrap_err().contains("operates"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        assert!(parse("sidecore = 1").unwrap_err().contains("did you mean sidecores?"));
        assert!(parse("[sidecores]\nspin = 1").unwrap_err().contains("did you mean sidecores.spin_us?"));
        assert!(parse("[roles.raed]").unwrap_err().contains("did you mean roles.read?"));
        assert!(parse("xyzzy = 1").unwrap_err().contains("there are: admission, allow_unsafe_noiommu"));
    }

    #[test]
    fn a_sidecore_may_have_a_mode_of_its_own() {
        let threads = |text: &str| parse(text).map(|config| config.sidecores.threads());
        let threads_given = threads("[sidecores]\ncpus = [1, \"3:event\"]\nmode = \"poll\"").unwrap();
        assert_eq!(threads_given, [(Some(1), SidecoreMode::Poll), (Some(3), SidecoreMode::Event)]);
        let error = threads("[sidecores]\ncpus = [\"3:fast\"]").unwrap_err();
        assert!(error.contains("write poll, adaptive or event"), "{error}");
        let error = threads("[sidecores]\ncpus = [true]").unwrap_err();
        assert!(error.contains("a processor, as in 3 or \"3:event\""), "{error}");
    }

    #[test]
    fn plugins_are_told_apart_by_name() {
        let plugin = "[[plugins]]\nname = \"quota\"\nlibrary = \"/lib/quota.so\"\norder = -1\n";
        let quota = &parse(plugin).unwrap().plugins[0];
        assert_eq!((quota.name.as_str(), quota.order, &quota.config), ("quota", -1, &None));
        assert!(parse(&plugin.repeat(2)).unwrap_err().contains("two of this name"));
        assert!(parse(&plugin.replace("/lib", "lib")).unwrap_err().contains("no absolute path"));
        assert!(parse(&plugin.replace("order", "ordre")).unwrap_err().contains("ordre"));
        let host = parse("plugin_host = \"/usr/lib/host\"").unwrap().plugin_host;
        assert_eq!(host, Path::new("/usr/lib/host"));
    }

    #[test]
    fn a_wrong_type_names_the_line() {
        let error = parse("devices = 3").unwrap_err();
        assert!(error.contains("vfiomux.toml") && error.contains("line 1"), "{error}");
    }
}
