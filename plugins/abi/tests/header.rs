//! The C header is what the Rust says.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};

/// The files with what crosses. The others are Rust's own.
const SOURCES: [&str; 8] = ["text", "verdict", "subject", "telemetry", "sink", "request", "policy", "check"];

const OPENING: &str = "\
/* The C ABI of vfiomux policy plugins. A plugin is a shared library that exports one object:
 *
 *     const struct vfiomux_policy vfiomux_policy_v1 = { ... };
 *
 * Generated from plugins/abi; change it there. The rules are in docs/guide/plugins.md.
 */";

const MACROS: &str = "
/* The text of a string literal: to begin a structure with, and as a value. */
#define VFIOMUX_TEXT_INIT(literal) {(literal), sizeof(literal) - 1}
#define VFIOMUX_TEXT(literal) ((struct vfiomux_text)VFIOMUX_TEXT_INIT(literal))

/* Whether what the host gave is new enough to have the field. */
#define VFIOMUX_HAS(pointer, field) \\
    ((pointer)->struct_size >= (size_t)((const char *)(&(pointer)->field + 1) - (const char *)(pointer)))";

const CLOSING: &str = "\
/* What the plugin exports. */
#ifdef __cplusplus
extern \"C\" const struct vfiomux_policy vfiomux_policy_v1;
#else
extern const struct vfiomux_policy vfiomux_policy_v1;
#endif";

/// What C calls a type: in snake case, with our prefix.
fn in_snake_case(name: &str) -> String {
    let mut words = String::from("vfiomux");
    for letter in name.trim_start_matches("Raw").chars() {
        if letter.is_ascii_uppercase() {
            words.push('_');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// Gives each type and each constant the name that it has in C. cbindgen writes `Setting_SHARE` for `Setting::SHARE`.
fn with_c_names(text: &str) -> String {
    let after = |start: &'static str| text.lines().filter_map(move |line| line.strip_prefix(start));
    let first = |rest: &str| rest.split([' ', ';']).next().unwrap_or_default().to_owned();
    let types: BTreeSet<String> = after("struct ").chain(after("typedef uint32_t ")).map(first).collect();
    let constants: BTreeSet<String> = after("#define ").map(first).collect();
    let c_name = |word: &str| match word.split_once('_') {
        _ if types.contains(word) => in_snake_case(word),
        Some((name, constant)) if types.contains(name) => {
            format!("{}_{constant}", in_snake_case(name).to_uppercase())
        }
        _ if constants.contains(word) && !word.starts_with("VFIOMUX_") => format!("VFIOMUX_{word}"),
        _ => word.to_owned(),
    };
    let mut renamed = String::new();
    for line in text.lines() {
        // In a comment, only what stands in backquotes is a name.
        let mut named = !line.trim_start().starts_with("//");
        let mut word = String::new();
        for letter in line.chars().chain(['\n']) {
            if letter.is_ascii_alphanumeric() || letter == '_' {
                word.push(letter);
                continue;
            }
            renamed.push_str(&if named { c_name(&word) } else { word.clone() });
            word.clear();
            named ^= letter == '`';
            renamed.push(letter);
        }
    }
    renamed
}

/// Rust's links are no use in C: of ``[`Policy`](crate::Policy)``, the name stays.
fn without_links(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("[`") {
        let (name, after) = from.split_once("`]").expect("a link that begins also ends");
        kept.push_str(before);
        kept.push_str(&format!("`{}`", name.replace("::", "_")));
        rest = match after.strip_prefix("(crate::") {
            Some(target) => target.split_once(')').expect("a target that begins also ends").1,
            None => after,
        };
    }
    kept + rest
}

fn generated() -> String {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut config = Config {
        language: Language::C,
        style: Style::Tag,
        usize_is_size_t: true,
        line_length: 100,
        documentation_style: DocumentationStyle::C99,
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        header: Some(OPENING.to_owned()),
        pragma_once: true,
        after_includes: Some(MACROS.to_owned()),
        trailer: Some(CLOSING.to_owned()),
        ..Config::default()
    };
    config.export.include = vec!["Policy".to_owned(), "Setting".to_owned()];
    let mut builder = Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(here.join("src").join(source).with_extension("rs"));
    }
    let bindings = builder.generate().expect("cbindgen reads the ABI");
    let mut text = Vec::new();
    bindings.write(&mut text);
    with_c_names(&without_links(&String::from_utf8(text).expect("a header is text")))
}

#[test]
fn the_kept_header_is_what_the_rust_says() {
    let text = generated();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("include/vfiomux_policy.h");
    if std::env::var_os("VFIOMUX_BLESS").is_some() {
        std::fs::write(&path, &text).expect("the header can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "include/vfiomux_policy.h is stale; run VFIOMUX_BLESS=1 cargo test -p vfiomux-plugin-abi the_kept_header and \
         review the difference"
    );
}
