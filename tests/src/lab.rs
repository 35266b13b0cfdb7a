//! What `tests/lab/setup.sh` made ready, or a loud skip.

use std::path::{Path, PathBuf};

/// The kit that a guest is built from and run with.
#[derive(Debug, Clone)]
pub struct Lab {
    dir: PathBuf,
}

impl Lab {
    /// Finds the kit. `None` means that the test must return at once: why has been said on standard error, in a line that begins
    /// with `SKIPPED:`.
    ///
    /// # Panics
    ///
    /// In CI (`CI=true`) when the kit is missing and `setup.sh` did not say that it cannot be had: a test that silently does not
    /// run is worse than one that fails.
    pub fn find_or_skip() -> Option<Lab> {
        let lab = Lab { dir: target_dir().join("lab") };
        if lab.dir.join("kernel-package").exists() {
            return Some(lab);
        }
        let reason = match std::fs::read_to_string(lab.dir.join("unavailable")) {
            Ok(reason) => reason.trim().to_owned(),
            Err(_) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
                panic!("{} is not made ready; CI runs tests/lab/setup.sh before the tests", lab.dir.display())
            }
            Err(_) => "run tests/lab/setup.sh once, as root".to_owned(),
        };
        eprintln!(
            "SKIPPED: {}: {reason}",
            std::thread::current().name().unwrap_or("a test with a virtual machine")
        );
        None
    }

    /// The kernel that every guest boots.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The kernel's modules, decompressed.
    pub fn modules(&self) -> PathBuf {
        self.dir.join("modules")
    }

    /// The statically linked busybox.
    pub fn busybox(&self) -> PathBuf {
        self.dir.join("busybox")
    }

    /// A script of `tests/lab/guest`.
    pub fn guest_script(&self, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/guest").join(name)
    }
}

/// Cargo's target directory, found from where the running test lies in it (`target/PROFILE/deps/test-HASH`).
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a profile's directory lies in the target directory").to_owned()
}

/// A program of this workspace, built by the same cargo run as the test.
///
/// # Panics
///
/// When it has not been built. Cargo builds the binaries of other packages only when asked for the whole workspace.
pub fn workspace_program(name: &str) -> PathBuf {
    let path = profile_dir().join(name);
    assert!(path.exists(), "{} is not built; run cargo build --workspace --bins first", path.display());
    path
}

/// A shared library of this workspace.
///
/// # Panics
///
/// When it was not built.
#[track_caller]
pub fn workspace_library(name: &str) -> PathBuf {
    let path = profile_dir().join(format!("lib{name}.so"));
    assert!(
        path.exists(),
        "{} is not built; run cargo build -p {} first",
        path.display(),
        name.replace('_', "-")
    );
    path
}

fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a running test knows its own path");
    let deps = test.parent().expect("a test lies in a directory");
    if deps.ends_with("deps") { deps.parent().expect("deps lies in a profile's directory") } else { deps }
        .to_owned()
}
