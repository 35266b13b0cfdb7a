//! What a plugin is asked, written down as it comes.
//!
//! The daemon notes it for as long as it is asked for, and writes no file: the file is ours, with our rights.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use vfiomux_rpc::{PluginRecording, call};

use crate::arguments::RecordWanted;
use crate::failure::Failure;
use crate::session::{Session, print};

/// How often to ask: well within what the daemon keeps.
const INTERVAL: Duration = Duration::from_millis(200);

pub(crate) fn run(mut session: Session, wanted: &RecordWanted) -> Result<(), Failure> {
    let RecordWanted { name, file: path, questions } = wanted;
    let ask = |since| call::PluginRecord { name: name.clone(), since };
    // A plugin that does not exist leaves no file behind.
    let mut last_line = session.call(&ask(None))?.last_line;
    let failed = |source| Failure::Recording { path: path.clone(), source };
    let mut file = create(path).map_err(failed)?;
    print(&format!("recording what plugin {name} is asked to {}\n", path.display()))?;
    let mut left = questions.unwrap_or(u64::MAX);
    while left > 0 {
        let heard = session.call(&ask(Some(last_line)))?;
        if heard.lines.is_empty() && heard.missed == 0 {
            sleep(INTERVAL);
        }
        let (text, written) = excerpt(&heard, left);
        file.write_all(text.as_bytes()).map_err(failed)?;
        left -= written;
        last_line = heard.last_line;
    }
    Ok(())
}

/// A file that was not there, for nobody else to read.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// What was heard as it goes into the file, with so many questions at most, and how many there are.
fn excerpt(heard: &PluginRecording, questions_max: u64) -> (String, u64) {
    let mut text = match heard.missed {
        0 => String::new(),
        missed => format!("# {missed} lines are missing\n"),
    };
    let mut questions = 0;
    for line in &heard.lines {
        if !line.starts_with('#') {
            if questions == questions_max {
                break;
            }
            questions += 1;
        }
        text.push_str(line);
        text.push('\n');
    }
    (text, questions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(missed: u64) -> PluginRecording {
        let lines = ["{\"tick\":{}}", "# 0 retunes", "{\"create\":{}}", "# allow"].map(str::to_owned);
        PluginRecording { lines: lines.into(), missed, last_line: 9 }
    }

    #[test]
    fn a_recording_ends_with_the_answer_to_its_last_question() {
        assert_eq!(excerpt(&heard(0), 1), ("{\"tick\":{}}\n# 0 retunes\n".to_owned(), 1));
        let (text, questions) = excerpt(&heard(0), 5);
        assert_eq!((text.lines().count(), questions), (4, 2));
    }

    #[test]
    fn what_is_missing_is_said_where_it_is_missing() {
        assert!(excerpt(&heard(7), 5).0.starts_with("# 7 lines are missing\n{"));
    }

    #[test]
    fn a_recording_overwrites_nothing_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evening.jsonl");
        let file = create(&path).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create(&path).is_err());
    }
}
