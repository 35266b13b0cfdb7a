//! A client: it works off a list, and remembers what it was answered.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use vfiomux_tests::lab::workspace_program;

use crate::draft::{Act, Operation, Repeat};
use crate::ledger::Ledger;
use crate::{Executioner, Place};

/// The longest that the daemon may take over one request, while it lives.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon is gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// What a request came to: its result, or its error.
pub(crate) type Answered = Result<Value, Value>;

/// A connection to the daemon, which may break at any time.
pub(crate) struct Wire {
    stream: BufReader<UnixStream>,
    last_id: u64,
}

impl Wire {
    pub(crate) fn connect(control: &Path) -> Result<Self, Gone> {
        let stream = UnixStream::connect(control).map_err(|_| Gone)?;
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        Ok(Self { stream: BufReader::new(stream), last_id: 0 })
    }

    /// Asks for something that cannot be refused.
    #[track_caller]
    pub(crate) fn must(&mut self, method: &str, params: Value) -> Value {
        let answered = self.ask(method, &params).expect("the daemon lives");
        answered.unwrap_or_else(|error| panic!("{method} {params}: {error:#}"))
    }

    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Result<Answered, Gone> {
        self.send(method, params)?;
        self.answer()
    }

    fn send(&mut self, method: &str, params: &Value) -> Result<(), Gone> {
        self.last_id += 1;
        let request = json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params });
        writeln!(self.stream.get_mut(), "{request}").map_err(|_| Gone)
    }

    /// The answer to what was sent last.
    fn answer(&mut self) -> Result<Answered, Gone> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer within {PATIENCE:?}"),
            _ => return Err(Gone),
        }
        let mut answer: Value = serde_json::from_str(&line).expect("a line is JSON");
        assert_eq!(answer["id"], self.last_id, "{answer}");
        Ok(match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["result"].take()),
        })
    }
}

/// One of those who race.
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) ledger: Ledger,
    /// Requests that were answered, and those of them that were refused.
    pub(crate) answered: u64,
    pub(crate) refused: u64,
}

impl Client {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, ledger: Ledger::new(number), answered: 0, refused: 0 }
    }

    /// Asks for one after the other, until all is done or the daemon is gone.
    pub(crate) fn work_off(&mut self, place: &Place, list: &[Operation], executioner: &Executioner) {
        for operation in list {
            let outcome = match operation.act.request(place) {
                Some((method, params)) => self.request(place, operation, method, params, executioner),
                None => self.apply(place, &operation.act, executioner),
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    fn request(
        &mut self,
        place: &Place,
        operation: &Operation,
        method: &str,
        mut params: Value,
        executioner: &Executioner,
    ) -> Result<(), Gone> {
        params["request_id"] = operation.request_id.as_str().into();
        // Whether it comes to anything is not known until it is answered.
        self.ledger.asked(&operation.act);
        let mut wire = Wire::connect(&place.control())?;
        let mut second = None;
        if operation.repeat == Repeat::Meanwhile {
            let mut other = Wire::connect(&place.control())?;
            other.send(method, &params)?;
            second = Some(other);
        }
        let answered = wire.ask(method, &params)?;
        self.answered += 1;
        self.refused += u64::from(answered.is_err());
        self.ledger.answered(&operation.act, &answered);
        let repeated = match (operation.repeat, second) {
            (Repeat::After, _) => Some(wire.ask(method, &params)),
            (_, Some(mut other)) => Some(other.answer()),
            _ => None,
        };
        executioner.count();
        match repeated {
            None => Ok(()),
            Some(Err(Gone)) => Err(Gone),
            Some(Ok(again)) => {
                assert_eq!(again, answered, "{method} {params} was answered otherwise when it was repeated");
                Ok(())
            }
        }
    }

    /// Brings a channel about by `vfiomuxctl apply`, which then finds nothing more to do.
    fn apply(&mut self, place: &Place, act: &Act, executioner: &Executioner) -> Result<(), Gone> {
        let Some(name) = act.channel() else { return Ok(()) };
        let file = place.path().join(format!("{name}.toml"));
        let desired = act.desired(&place.socket(name)).expect("it is to be applied");
        std::fs::write(&file, desired).expect("the directory is ours");
        self.ledger.asked(act);
        let apply = |more: &[&str]| {
            let mut command = Command::new(workspace_program("vfiomuxctl"));
            command.arg("--control").arg(place.control()).arg("apply").arg(&file).args(more);
            command.stdin(Stdio::null()).output().expect("vfiomuxctl runs")
        };
        let applied = apply(&["--shrink"]);
        let said = String::from_utf8_lossy(&applied.stderr);
        assert!(applied.status.code().is_some_and(|code| code != 101), "apply crashed: {said}");
        // What came of it is looked up, if the daemon still lives.
        let shown = Wire::connect(&place.control())?.ask("channel.show", &json!({ "name": name }))?;
        self.ledger.seen(name, &shown, applied.status.success().then_some(act));
        if applied.status.success() && act.is_met_by(&shown) {
            let again = apply(&["--shrink", "--dry-run"]);
            let said = String::from_utf8_lossy(&again.stdout);
            assert!(!again.status.success() || said.contains("nothing to do"), "applied twice: {said}");
        }
        executioner.count();
        Ok(())
    }

    /// After a crash: everything is as it was answered.
    pub(crate) fn check(&mut self, wire: &mut Wire) {
        for name in self.ledger.own_channels() {
            let shown = wire.ask("channel.show", &json!({ "name": name })).expect("the daemon lives");
            self.ledger.seen(&name, &shown, None);
        }
        if self.number == 0 {
            let plugin = wire.must("plugin.show", json!({ "name": "faulty" }));
            self.ledger.check_plugin(&plugin);
        }
    }
}
