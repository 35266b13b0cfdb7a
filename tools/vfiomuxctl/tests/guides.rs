//! Every command of `vfiomuxd`, `vfiomuxctl` and `vfiomux-load`, every device and every configuration that the README and the
//! guides quote is one that these programs take, so that what is written there cannot rot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use vfiomux_manager::config::Config;
use vfiomux_sim::DeviceSpec;

/// Exit code of wrong usage, as documented in `vfiomuxctl --help`.
const WRONG_USAGE: i32 = 2;

/// A fenced block of a page.
struct Block {
    page: PathBuf,
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guides = fs::read_dir(root.join("docs/guide")).unwrap().map(|entry| entry.unwrap().path());
    let mut found = Vec::new();
    for page in guides.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        // Odd parts are inside fences; each begins with its language.
        for fenced in text.split("```").skip(1).step_by(2) {
            let (language, text) = fenced.split_once('\n').unwrap_or((fenced, ""));
            found.push(Block { page: page.clone(), language: language.to_owned(), text: text.to_owned() });
        }
    }
    found
}

/// Commands of `program`, each with the page that quotes it, as words after the program's name.
fn commands(program: &str) -> Vec<(PathBuf, Vec<String>)> {
    let mut found = Vec::new();
    for block in blocks() {
        let text = block.text.replace("\\\n", " ");
        for line in text.lines() {
            let line = match block.language.as_str() {
                "sh" => line,
                "console" => line.strip_prefix("$ ").unwrap_or_default(),
                "ini" => line.strip_prefix("ExecStart=").unwrap_or_default(),
                _ => continue,
            };
            // What is done when it fails is another command.
            let line = line.split(" || ").next().unwrap_or_default().trim_end_matches('&');
            let mut words = line.split_whitespace().skip_while(|word| *word == "sudo").map(str::to_owned);
            let name = words.next().unwrap_or_default();
            if Path::new(&name).file_name().is_some_and(|name| name == program) {
                found.push((block.page.clone(), words.collect()));
            }
        }
    }
    assert!(!found.is_empty(), "no page quotes {program}: this test looks in the wrong place");
    found
}

#[test]
fn every_quoted_command_of_vfiomuxctl_is_one() {
    // Nobody listens here, so what is understood gets no further than that.
    let directory = tempfile::tempdir().unwrap();
    let nobody = directory.path().join("nobody");
    // A file whose name stands beside the language of its block is there, so that it is read.
    for block in blocks() {
        if let Some(("toml", name)) = block.language.split_once(' ')
            && !name.contains('/')
        {
            fs::write(directory.path().join(name), &block.text).unwrap();
        }
    }
    for (page, mut words) in commands("vfiomuxctl") {
        if let Some(at) = words.iter().position(|word| word == "--control") {
            words.drain(at..at + 2);
        }
        assert!(!words.iter().any(|word| word.starts_with("--control")), "{words:?} would reach a daemon");
        let output = Command::new(env!("CARGO_BIN_EXE_vfiomuxctl"))
            .arg("--control")
            .arg(&nobody)
            .args(&words)
            // What writes a file, as `plugin new` does, writes it here.
            .current_dir(directory.path())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(WRONG_USAGE), "{}: {words:?}: {complaint}", page.display());
    }
}

#[test]
fn every_quoted_command_of_vfiomuxd_is_one_and_its_devices_are_devices() {
    for (page, words) in commands("vfiomuxd") {
        let all = ["vfiomuxd".to_owned()].into_iter().chain(words);
        let arguments = vfiomux_daemon::Arguments::try_parse_from(all)
            .unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        for device in arguments.devices.iter().filter(|device| device.starts_with("sim:")) {
            let spec = device.parse::<DeviceSpec>();
            assert!(spec.is_ok(), "{}: {device}: {}", page.display(), spec.unwrap_err());
        }
    }
}

#[test]
fn every_quoted_command_of_vfiomux_load_is_one() {
    for (page, words) in commands("vfiomux-load") {
        let all = ["vfiomux-load".to_owned()].into_iter().chain(words);
        let understood = vfiomux_load::Arguments::try_parse_from(all);
        assert!(understood.is_ok(), "{}: {}", page.display(), understood.unwrap_err());
    }
}

#[test]
fn every_quoted_configuration_is_one_and_the_reference_is_complete_and_states_the_defaults() {
    let mut references = 0;
    for block in blocks().iter().filter(|block| block.language == "toml") {
        let config = Config::parse(&block.page, &block.text).unwrap_or_else(|error| panic!("{error}"));
        let is_reference = block.text.contains("spin_us");
        if is_reference {
            references += 1;
            assert_eq!(config, Config::default(), "the defaults in {}", block.page.display());
            for key in ["devices", "state_dir", "control", "allow_unsafe_noiommu", "cpus", "mode", "spin_us"]
            {
                assert!(block.text.contains(&format!("\n{key} = ")), "{key} is not in the reference");
            }
        }
    }
    assert_eq!(references, 1, "there is one reference of the configuration");
}
