//! A crate to begin a policy from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::arguments::NewPlugin;

/// Each file of the crate, with what is in it; `{{name}}` and its kin are filled in.
const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("../template/Cargo.toml.in")),
    ("src/lib.rs", include_str!("../template/lib.rs.in")),
    ("recordings/example.jsonl", include_str!("../template/recordings/example.jsonl")),
    (".gitignore", "/target\n"),
];

/// Where the SDK lies in a checkout of vfiomux.
const SDK_IN_CHECKOUT: &str = "plugins/sdk";

/// Why there is no new crate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewPluginError {
    #[error(
        "{0:?} is no name for a crate: it may have small letters, digits and hyphens, and begins with a letter"
    )]
    Name(String),
    #[error("{} is there already; choose another name, or another --path", .0.display())]
    Exists(PathBuf),
    #[error(
        "the SDK is not found from {}, which is in no checkout of vfiomux; say where it is, with --sdk-path \
         CHECKOUT/plugins/sdk or --sdk-git URL",
        .0.display()
    )]
    NoSdk(PathBuf),
    #[error("{} is no crate of the SDK: it has no Cargo.toml; give the path of plugins/sdk", .0.display())]
    NotTheSdk(PathBuf),
    #[error("{} cannot be written: {}", path.display(), source)]
    Write { path: PathBuf, source: io::Error },
}

/// Writes the crate, and says what to do with it.
pub(crate) fn write(wanted: &NewPlugin) -> Result<String, NewPluginError> {
    let name = &wanted.name;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(plain) {
        return Err(NewPluginError::Name(name.clone()));
    }
    let parent = wanted.path.clone().unwrap_or_else(|| PathBuf::from("."));
    let directory = parent.join(name);
    if directory.exists() {
        return Err(NewPluginError::Exists(directory));
    }
    let sdk = sdk_dependency(wanted, &parent)?;
    for (file, template) in FILES {
        let path = directory.join(file);
        let text =
            template.replace("{{name}}", name).replace("{{type}}", &type_name(name)).replace("{{sdk}}", &sdk);
        let parent = path.parent().unwrap_or(&directory);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .map_err(|source| NewPluginError::Write { path: path.clone(), source })?;
    }
    let (library, place) = (name.replace('-', "_"), directory.display());
    Ok(format!(
        "{place} is a policy that builds, tests and loads:\n  cd {place}\n  cargo test\n  cargo build --release\n  \
         echo 1073741824 > {name}.conf\n  \
         vfiomuxctl plugin load {name} --library target/release/lib{library}.so --config {name}.conf\n"
    ))
}

/// What stands for the SDK in the crate's manifest.
fn sdk_dependency(wanted: &NewPlugin, parent: &Path) -> Result<String, NewPluginError> {
    if let Some(url) = &wanted.sdk_git {
        return Ok(format!("git = {}", quoted(url)));
    }
    let path = match &wanted.sdk_path {
        Some(path) => path.clone(),
        None => in_checkout(parent).ok_or_else(|| NewPluginError::NoSdk(parent.to_owned()))?,
    };
    // The manifest is read from elsewhere, so the path must hold from anywhere.
    match path.canonicalize() {
        Ok(path) if path.join("Cargo.toml").is_file() => {
            Ok(format!("path = {}", quoted(&path.to_string_lossy())))
        }
        _ => Err(NewPluginError::NotTheSdk(path)),
    }
}

/// The SDK of the checkout that the directory is in.
fn in_checkout(directory: &Path) -> Option<PathBuf> {
    let directory = directory.canonicalize().ok()?;
    let sdk = directory.ancestors().map(|above| above.join(SDK_IN_CHECKOUT));
    sdk.into_iter().find(|sdk| sdk.join("Cargo.toml").is_file())
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// `night-watch` as `NightWatch`.
fn type_name(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, path: &Path) -> NewPlugin {
        NewPlugin { name: name.to_owned(), path: Some(path.to_owned()), sdk_path: None, sdk_git: None }
    }

    #[test]
    fn words_of_a_name_make_a_type() {
        assert_eq!(type_name("night-watch"), "NightWatch");
        assert_eq!(type_name("a-1"), "A1");
    }

    #[test]
    fn in_a_checkout_the_sdk_is_found() {
        let checkout = tempfile::tempdir().unwrap();
        fs::create_dir_all(checkout.path().join(SDK_IN_CHECKOUT)).unwrap();
        fs::write(checkout.path().join(SDK_IN_CHECKOUT).join("Cargo.toml"), "").unwrap();
        let inside = checkout.path().join("policies");
        fs::create_dir(&inside).unwrap();
        write(&wanted("one", &inside)).unwrap();
        let manifest = fs::read_to_string(inside.join("one/Cargo.toml")).unwrap();
        let sdk = checkout.path().canonicalize().unwrap().join(SDK_IN_CHECKOUT);
        assert!(manifest.contains(&format!("path = \"{}\"", sdk.display())), "{manifest}");
    }

    #[test]
    fn outside_a_checkout_the_sdk_must_be_named() {
        let outside = tempfile::tempdir().unwrap();
        assert!(matches!(write(&wanted("one", outside.path())), Err(NewPluginError::NoSdk(_))));
        let git =
            NewPlugin { sdk_git: Some("ssh://host/vfiomux.git".to_owned()), ..wanted("one", outside.path()) };
        write(&git).unwrap();
        let manifest = fs::read_to_string(outside.path().join("one/Cargo.toml")).unwrap();
        assert_eq!(manifest.matches("git = \"ssh://host/vfiomux.git\"").count(), 2, "{manifest}");
        assert!(matches!(write(&git), Err(NewPluginError::Exists(_))), "nothing is written over");
        let elsewhere = NewPlugin { sdk_path: Some("nowhere".into()), ..wanted("two", outside.path()) };
        assert!(matches!(write(&elsewhere), Err(NewPluginError::NotTheSdk(_))));
    }

    #[test]
    fn a_name_that_no_crate_can_have_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        for name in ["", "-a", "1a", "A", "a_b", "a/b", "../a", "a b"] {
            let refused = write(&wanted(name, outside.path()));
            assert!(matches!(refused, Err(NewPluginError::Name(_))), "{name}");
        }
    }
}
