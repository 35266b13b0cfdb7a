//! The guide for plugin authors, done as it stands: each file that it shows is written, and each of its commands run, in order and in one
//! shell.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use vfiomux_tests::lab::workspace_program;

/// The programs that the guide takes from the path.
const PROGRAMS: [&str; 3] = ["vfiomuxd", "vfiomuxctl", "vfiomux-plugin-host"];

/// The shell script that the guide is. A fence of `sh` is run; one that names a file after its language is that file.
fn script(guide: &str) -> String {
    let mut script = String::from("trap 'kill $(jobs -p)' EXIT\n");
    for (number, fenced) in guide.split("```").skip(1).step_by(2).enumerate() {
        let (fence, text) = fenced.split_once('\n').expect("a fence ends its line");
        match fence.split_once(' ') {
            Some((_, file)) => {
                writeln!(script, "cat > {file} <<'END_OF_{number}'\n{text}END_OF_{number}")
                    .expect("a string takes it");
            }
            // Each command is shown before it runs, so that the failing one is seen.
            None if fence == "sh" => {
                writeln!(script, "set -x\n{text}{{ set +x; }} 2> /dev/null").expect("a string takes it")
            }
            None => panic!("{fence}: a block is commands, or a file that it names"),
        }
    }
    script
}

#[test]
fn every_command_and_every_line_of_the_plugin_guide_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the clone is there");
    let guide = fs::read_to_string(root.join("docs/guide/plugins.md")).expect("the guide is there");
    let programs = PROGRAMS.map(workspace_program);
    let built = programs[0].parent().expect("a program lies in a directory");
    let path = format!("{}:{}", built.display(), std::env::var("PATH").unwrap_or_default());
    let directory = tempfile::tempdir().expect("there is room");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script(&guide)])
        .current_dir(directory.path())
        .env("PATH", path)
        .env("VFIOMUX", &root)
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("there is a shell");
    let (said, did) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{did}\n{said}");
    for expected in ["tenant acme has its 1", "nobody writes today", "no file and no thread here"] {
        assert!(did.contains(expected), "{expected:?} is not in:\n{did}");
    }
    assert_eq!(said.matches("exit code 5").count(), 3, "{said}");
}
