//! What is no plugin is refused, with a message that says which.

use std::fs;
use std::path::{Path, PathBuf};

use vfiomux_policy::{HostFault, PluginHost, PluginStatus, Policy as _};

use crate::world::{chain, create, faulty_library, library_of, spec};

/// Why a library is refused. It is not tried again.
fn refusal(library: &Path) -> String {
    let mut host = PluginHost::new(spec("p", library));
    let HostFault::Refused { why } = host.begin().unwrap_err() else { panic!("not refused") };
    assert_eq!(host.state().unwrap().status, PluginStatus::Refused);
    assert!(why.contains(library.to_str().unwrap()), "{why}");
    why
}

/// A plugin whose table has this header.
fn with_header(header: &str) -> String {
    format!(
        r#"
        #include "vfiomux_policy.h"
        const struct vfiomux_policy vfiomux_policy_v1 = {{
            .magic = VFIOMUX_MAGIC, .major = VFIOMUX_MAJOR, .minor = VFIOMUX_MINOR,
            .struct_size = sizeof(struct vfiomux_policy),
            .name = {{"plain", 5}}, .version = {{"1", 1}}, {header}
        }};
        "#
    )
}

#[test]
fn a_file_that_is_no_library_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("policy.so");
    fs::write(&text, "allow everything\n").unwrap();
    assert!(refusal(&text).contains("it is no library"));
    assert!(refusal(directory.path()).contains("is no file"));
    assert!(refusal(&directory.path().join("nothing.so")).contains("cannot be read"));
}

#[test]
fn a_library_that_is_cut_anywhere_is_refused() {
    let whole = fs::read(faulty_library()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (index, bytes) in [0, 3, 40, 64, 1000, whole.len() / 2, whole.len() - 1].into_iter().enumerate() {
        let cut = directory.path().join(format!("cut-{index}.so"));
        fs::write(&cut, &whole[..bytes]).unwrap();
        let why = refusal(&cut);
        let expected = if bytes < 4 { "it is no library" } else { "it is cut short" };
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn a_program_is_no_library() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_vfiomux-plugin-host"));
    assert!(refusal(&program).contains("vfiomux-plugin-host"));
}

#[test]
fn a_library_that_is_no_plugin_says_so() {
    let (_directory, library) = library_of("int answer = 42;");
    assert!(refusal(&library).contains("exports no vfiomux_policy_v1"));
}

#[test]
fn a_library_that_wants_what_is_not_there_says_what() {
    let (_directory, library) = library_of("void missing(void); void start(void) { missing(); }");
    let why = refusal(&library);
    assert!(why.contains("cannot be loaded") && why.contains("missing"), "{why}");
}

#[test]
fn a_table_that_does_not_fit_says_how() {
    for (header, expected) in [
        (".major = 2", "major version 2"),
        (".major = 0", "major version 0"),
        (".magic = 1", "magic"),
        (".struct_size = 16", "16 bytes"),
    ] {
        let (_directory, library) = library_of(&with_header(header));
        let why = refusal(&library);
        assert!(why.contains(expected), "{header}: {why}");
    }
}

#[test]
fn an_older_and_a_newer_minor_run() {
    for header in [".minor = 0, .struct_size = offsetof(struct vfiomux_policy, save)", ".minor = 99"] {
        let (_directory, library) = library_of(&with_header(header));
        assert!(chain(spec("p", &library)).ask(create()).outcome.is_ok(), "{header}");
    }
}

#[test]
fn a_table_larger_than_we_know_runs() {
    let source = r#"
        #include "vfiomux_policy.h"
        static vfiomux_verdict create(void *self, const struct vfiomux_create_request *request,
                                      const struct vfiomux_answer_sink *sink) {
            return VFIOMUX_VERDICT_DENY;
        }
        const struct { struct vfiomux_policy known; void (*unknown)(void); } table
            __asm__("vfiomux_policy_v1") = {
            { .magic = VFIOMUX_MAGIC, .major = VFIOMUX_MAJOR, .minor = VFIOMUX_MINOR + 1,
              .struct_size = sizeof table, .create = create },
        };
    "#;
    let (_directory, library) = library_of(source);
    assert!(chain(spec("p", &library)).ask(create()).outcome.is_err());
}

#[test]
fn a_configuration_that_the_plugin_refuses_is_refused_with_its_reason() {
    let mut host = PluginHost::new(crate::world::faulty("p", "create dance"));
    let HostFault::Refused { why } = host.begin().unwrap_err() else { panic!("not refused") };
    assert!(why.contains("dance"), "{why}");
}

#[test]
fn a_host_that_is_not_there_says_where_it_should_be() {
    let mut spec = spec("p", &faulty_library());
    spec.host = PathBuf::from("/nowhere/vfiomux-plugin-host");
    let fault = PluginHost::new(spec).begin().unwrap_err();
    assert!(fault.to_string().contains("/nowhere/vfiomux-plugin-host"), "{fault}");
}
