//! Plugins in plain C, built with `cc` against the kept header and run.
#![expect(unsafe_code, reason = "loads libraries")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use vfiomux_plugin::harness::{Harness, HarnessError};
use vfiomux_plugin::{
    Amendments, Channel, ChannelTelemetry, CreateRequest, DestroyRequest, Guarantees, InitRequest,
    TickRequest, TuneRequest, Verdict,
};

/// A shared library in a directory of its own, which goes with it.
struct Built {
    library: PathBuf,
    _directory: TempDir,
}

/// Builds a library as a plugin's author does, with every warning an error.
fn cc(source: &Path, defines: &[&str]) -> Built {
    let directory = tempfile::tempdir().expect("there is room for a library");
    let library = directory.path().join("libplugin.so");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let output = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared", "-fPIC"])
        .args(defines.iter().map(|define| format!("-D{define}")))
        .arg("-I")
        .arg(include)
        .arg("-o")
        .args([&library, source])
        .output()
        .expect("there is a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Built { library, _directory: directory }
}

fn load(library: &Path, configuration: &str) -> Result<Harness, HarnessError> {
    let request = InitRequest { name: "test".to_owned(), configuration: configuration.to_owned() };
    // SAFETY: the library was built here, from sources of ours.
    unsafe { Harness::load(library, &request) }
}

fn size_cap() -> Built {
    cc(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/size_cap.c"), &[])
}

/// A plugin that denies creation, with the header that the defines give it.
fn versioned(defines: &[&str]) -> Built {
    cc(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/versioned.c"), defines)
}

fn create(size_bytes: u64, share: Option<u32>) -> CreateRequest {
    let guarantees = Guarantees { share, ..Guarantees::default() };
    CreateRequest {
        channel: Channel { size_bytes, guarantees, ..Channel::default() },
        ..CreateRequest::default()
    }
}

fn refusal(library: &Path) -> String {
    let error = load(library, "").expect_err("it is refused");
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}

#[test]
fn a_plain_c_plugin_runs() {
    let built = size_cap();
    let mut harness = load(&built.library, "1000").expect("it is a plugin");
    assert_eq!(harness.name_and_version(), ("size_cap", "1.0"));
    assert_eq!(harness.create(&create(1000, Some(5))), Verdict::Allow);
    assert_eq!(harness.create(&create(1000, None)), Verdict::Amend(Amendments::none().share(100)));
    assert_eq!(harness.create(&create(1001, None)), Verdict::deny("a channel has at most 1000 bytes here"));
    let grown = TuneRequest { wanted: create(2000, None).channel, ..TuneRequest::default() };
    assert!(matches!(harness.tune(&grown), Verdict::Deny(_)));
    assert_eq!(harness.destroy(&DestroyRequest::default()), Verdict::Allow, "a null hook allows");
}

#[test]
fn a_plain_c_plugin_retunes() {
    let built = size_cap();
    let mut harness = load(&built.library, "1000").expect("it is a plugin");
    let did = |id: &str, write_bytes, share| ChannelTelemetry {
        channel: Channel { id: id.to_owned(), generation: 4, ..create(1, Some(share)).channel },
        write_bytes,
        ..ChannelTelemetry::default()
    };
    let channels = vec![did("quiet", 1, 100), did("loud", 5000, 100), did("calmer", 1, 10)];
    let retunes = harness.tick(&TickRequest { channels, ..TickRequest::default() });
    let given: Vec<_> = retunes
        .iter()
        .map(|retune| (retune.channel_id.as_str(), retune.generation, &retune.amendments))
        .collect();
    let share = |share| Amendments::none().share(share);
    assert_eq!(given, [("loud", 4, &share(10)), ("calmer", 4, &share(100))]);
}

#[test]
fn a_plain_c_plugin_refuses_a_configuration_and_hands_over_state() {
    let built = size_cap();
    let refused = load(&built.library, "much").expect_err("that is no number");
    assert!(refused.to_string().ends_with("the configuration is a number of bytes"), "{refused}");
    let mut old = load(&built.library, "1").expect("it is a plugin");
    old.create(&create(2, None));
    let state = old.save().expect("it has counted");
    assert_eq!(state, 1_u64.to_ne_bytes());
    let mut new = load(&built.library, "1").expect("it is a plugin");
    assert_eq!(new.restore(&state), Ok(()));
    assert_eq!(new.log()[0].line, "goes on counting denials");
    assert_eq!(new.restore(b"x"), Err("this is no state of size_cap".to_owned()));
}

#[test]
fn an_older_and_a_newer_minor_both_load() {
    for (minor, defines) in [
        // As of 1.0: a table that ends before `save`.
        (0, &["MINOR=0", "SIZE=offsetof(struct vfiomux_policy, save)", "GARBAGE_BEHIND"][..]),
        // As of some 1.9: a table that has hooks behind those that are known here.
        (9, &["MINOR=9", "SIZE=sizeof(struct vfiomux_policy)+64"]),
    ] {
        let built = versioned(defines);
        let mut harness = load(&built.library, "").expect("minors are compatible");
        assert_eq!(harness.create(&create(1, None)), Verdict::deny("as every version says"));
        assert_eq!(harness.save().is_some(), minor > 0, "save came with minor 1");
    }
}

#[test]
fn what_is_no_plugin_of_ours_is_refused_and_it_is_said_why() {
    let wrong = |defines: &[&str]| refusal(&versioned(defines).library);
    assert!(wrong(&["MAJOR=2"]).contains("major version 2"), "{}", wrong(&["MAJOR=2"]));
    assert!(wrong(&["MAGIC=7"]).contains("begins with 0x0000000000000007"), "{}", wrong(&["MAGIC=7"]));
    assert!(wrong(&["SIZE=64"]).contains("64 bytes"), "{}", wrong(&["SIZE=64"]));
    let missing = wrong(&["vfiomux_policy_v1=another_name"]);
    assert!(missing.contains("it exports no vfiomux_policy_v1"), "{missing}");
}

#[test]
fn what_is_no_whole_library_is_refused() {
    let built = size_cap();
    let whole = fs::read(&built.library).expect("it was just built");
    for kept in [100, whole.len() / 2, whole.len() - 1] {
        fs::write(&built.library, &whole[..kept]).expect("it can be shortened");
        let message = refusal(&built.library);
        assert!(message.starts_with(&format!("it is cut short: it has {kept} bytes")), "{message}");
    }
    for other in ["", "#!/bin/sh\n"] {
        fs::write(&built.library, other).expect("it can be overwritten");
        let message = refusal(&built.library);
        assert!(message.starts_with("it is no library"), "{message}");
    }
}
