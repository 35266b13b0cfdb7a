//! A scenario of the management model as it is played against the daemon, and what of the protocol it uses.
//!
//! Nothing is listed by hand. Each call is noted as it is made, and each item of information as it is read: an [`Answer`] knows
//! from the protocol's own document, `docs/rpc.json`, of which type it is, and a field that the type does not have is refused, so that
//! what is noted is what exists. When a scenario has held, its notes are put where `cargo xtask coverage` finds them.
//!
//! The client here shares no code with the daemon's: it writes lines and reads lines.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::Vfiomuxd;
use crate::lab::target_dir;

/// The longest that any answer or event may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a scenario has used so far.
#[derive(Debug, Default)]
struct Used {
    functions: BTreeSet<String>,
    items: BTreeSet<String>,
}

type Notes = Arc<Mutex<Used>>;

/// The protocol's document, as the repository keeps it.
fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rpc.json");
        let text = fs::read_to_string(path).expect("the repository has it");
        serde_json::from_str(&text).expect("it is JSON")
    })
}

/// A scenario being played: a directory, a daemon in it, and notes of what is used.
#[derive(Debug)]
pub struct Scenario {
    id: &'static str,
    directory: tempfile::TempDir,
    daemon: Option<Vfiomuxd>,
    notes: Notes,
}

impl Scenario {
    /// Sets the stage: a daemon on these devices.
    #[track_caller]
    pub fn begin(id: &'static str, devices: &[&str]) -> Self {
        Self::begin_with(id, devices, "")
    }

    /// The same with a configuration file; `@DIR@` in it is the scenario's directory.
    #[track_caller]
    pub fn begin_with(id: &'static str, devices: &[&str], config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut scenario = Self { id, directory, daemon: None, notes: Notes::default() };
        scenario.start(devices, config);
        scenario
    }

    /// Starts the daemon again where it was ended, on these devices.
    #[track_caller]
    pub fn start(&mut self, devices: &[&str], config: &str) {
        let here = self.directory.path().to_string_lossy().into_owned();
        let devices: Vec<String> = devices.iter().map(|device| device.replace("@DIR@", &here)).collect();
        let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
        let config = config.replace("@DIR@", &here);
        self.daemon = Some(Vfiomuxd::start_with_config(self.directory.path(), &devices, &config));
    }

    /// Ends the daemon in order.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.daemon.take().expect("it runs").terminate();
    }

    /// L1: what the daemon has recorded can have happened. Taken before a crash, which leaves nobody to ask.
    #[track_caller]
    pub fn assert_trace(&mut self) {
        self.daemon.as_mut().expect("it runs").assert_trace();
    }

    /// Ends the daemon as a crash does.
    #[track_caller]
    pub fn kill(&mut self) {
        self.daemon.take().expect("it runs").kill();
    }

    /// Where the scenario's files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where a front-end reaches a channel.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.sock"))
    }

    /// Somebody who asks, as this test's user.
    #[track_caller]
    pub fn operator(&self) -> Operator {
        Operator::connect(&self.directory.path().join("control.sock"), &self.notes)
    }

    /// Parameters for a channel of `size_mib`, served at [`Scenario::socket`].
    pub fn channel(&self, name: &str, device: &str, size_mib: u64) -> Value {
        json!({
            "name": name, "device": device, "tenant": "acme", "size_bytes": size_mib << 20, "queues": 2,
            "endpoint": { "path": self.socket(name) },
        })
    }

    /// It has held: the notes are put where the table of coverage is made from.
    pub fn held(mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.terminate();
        }
        let used = self.notes.lock().expect("no test thread has panicked");
        let notes = json!({ "scenario": self.id, "functions": used.functions, "items": used.items });
        let directory = target_dir().join("scenarios");
        fs::create_dir_all(&directory).expect("the target directory is ours");
        // A scenario may be played by several tests, each with its own notes.
        let test = std::thread::current().name().map_or_else(String::new, |name| name.replace("::", "-"));
        let path = directory.join(format!("{}.{test}.json", self.id));
        fs::write(path, format!("{notes:#}\n")).expect("the target directory is ours");
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Operator {
    stream: BufReader<UnixStream>,
    notes: Notes,
    last_id: u64,
}

impl Operator {
    #[track_caller]
    fn connect(control: &Path, notes: &Notes) -> Self {
        let stream = UnixStream::connect(control).expect("the daemon listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        Self { stream: BufReader::new(stream), notes: notes.clone(), last_id: 0 }
    }

    /// Calls a function that must succeed.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Answer {
        match self.ask(method, params) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} was refused: {:#}", error.value),
        }
    }

    /// Calls a function; none when it is refused in these words, which is no more than not yet.
    #[track_caller]
    pub fn call_unless(&mut self, method: &str, params: Value, words: &str) -> Option<Answer> {
        match self.ask(method, params) {
            Ok(answer) => Some(answer),
            Err(error) => {
                let said = error.value.to_string();
                assert!(said.contains(words), "{method}: {said} does not say {words:?}");
                None
            }
        }
    }

    /// Calls a function that must be refused; the refusal as an `ErrorData`, with the message under `message`.
    #[track_caller]
    pub fn refused(&mut self, method: &str, params: Value, words: &str) -> Answer {
        match self.ask(method, params) {
            Ok(answer) => panic!("{method} was not refused: {:#}", answer.value),
            Err(error) => {
                let said = error.value.to_string();
                assert!(said.contains(words), "{method}: {said} does not say {words:?}");
                error.only_data()
            }
        }
    }

    #[track_caller]
    fn ask(&mut self, method: &str, params: Value) -> Result<Answer, Answer> {
        self.last_id += 1;
        let id = self.last_id;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        writeln!(self.stream.get_mut(), "{request}").expect("the daemon reads");
        let note = |functions: &str| {
            self.notes.lock().expect("no test thread has panicked").functions.insert(functions.to_owned());
        };
        note(method);
        let mut answer = loop {
            let line = self.line();
            if line["id"] == id {
                break line;
            }
        };
        let methods = document()["methods"].as_array().expect("a list");
        let row = methods.iter().find(|row| row["name"] == method);
        let row = row.unwrap_or_else(|| panic!("docs/rpc.json has no method {method}"));
        match answer.get_mut("error").map(Value::take) {
            Some(error) => Err(self.answer(error, &json!({ "$ref": "#/components/schemas/ErrorData" }))),
            None => Ok(self.answer(answer["result"].take(), &row["result"]["schema"])),
        }
    }

    /// Has events sent from number `since` on; the subscription.
    #[track_caller]
    pub fn subscribe(&mut self, since: u64) -> Answer {
        self.call("events.subscribe", json!({ "since": since }))
    }

    /// The next event that is sent.
    #[track_caller]
    pub fn event(&mut self) -> Answer {
        let line = loop {
            let line = self.line();
            if line["method"] == "event" {
                break line;
            }
        };
        self.answer(line["params"].clone(), &json!({ "$ref": "#/components/schemas/Event" }))
    }

    /// The next event of a channel that brings it to this state.
    #[track_caller]
    pub fn wait_until(&mut self, channel: &str, state: &str) -> Answer {
        loop {
            let event = self.event();
            if event.get("object").get("name").is(channel) && event.get("to").is(state) {
                return event;
            }
        }
    }

    /// The next event of this kind.
    #[track_caller]
    pub fn wait_for(&mut self, kind: &str) -> Answer {
        loop {
            let event = self.event();
            if event.get("kind").is(kind) {
                return event;
            }
        }
    }

    /// Calls a function in the background: what is answered is its job.
    #[track_caller]
    pub fn begin(&mut self, method: &str, params: Value) -> Answer {
        let answer = self.call(method, params);
        Answer { schema: json!({ "$ref": "#/components/schemas/JobInfo" }), ..answer }
    }

    /// Calls again and again until the answer is as wanted.
    #[track_caller]
    pub fn call_until(
        &mut self,
        method: &str,
        params: &Value,
        mut wanted: impl FnMut(&Answer) -> bool,
    ) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.call(method, params.clone());
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{method} never answers as wanted: {:#}", answer.value);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the daemon answers in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn answer(&self, value: Value, schema: &Value) -> Answer {
        Answer { value, schema: schema.clone(), notes: self.notes.clone() }
    }
}

/// Something that was answered, which notes what is read of it.
#[derive(Debug, Clone)]
pub struct Answer {
    value: Value,
    schema: Value,
    notes: Notes,
}

impl Answer {
    /// A field; null when it is not there.
    #[track_caller]
    pub fn get(&self, field: &str) -> Answer {
        let (name, schema) = resolve(&self.schema);
        let Some(property) = schema["properties"].get(field) else {
            panic!("{name} has no field {field}: {schema:#}");
        };
        self.notes.lock().expect("no test thread has panicked").items.insert(format!("{name}.{field}"));
        Answer {
            value: self.value.get(field).cloned().unwrap_or_default(),
            schema: property.clone(),
            notes: self.notes.clone(),
        }
    }

    /// Several fields, each of which must be there.
    #[track_caller]
    pub fn all<const N: usize>(&self, fields: [&str; N]) -> [Answer; N] {
        fields.map(|field| {
            let answer = self.get(field);
            assert!(!answer.is_null(), "{field} is not told: {:#}", self.value);
            answer
        })
    }

    /// The sum of several numbers, each of which must be there.
    #[track_caller]
    pub fn sum<const N: usize>(&self, fields: [&str; N]) -> u64 {
        self.all(fields).iter().map(Answer::number).sum()
    }

    /// The entries of a list.
    #[track_caller]
    pub fn items(&self) -> Vec<Answer> {
        let schema = list_schema(&self.schema);
        let values = self.value.as_array().unwrap_or_else(|| panic!("{:#} is no list", self.value));
        let entry = |value: &Value| Answer {
            value: value.clone(),
            schema: schema["items"].clone(),
            notes: self.notes.clone(),
        };
        values.iter().map(entry).collect()
    }

    /// The entry of a list whose `field` is `value`.
    #[track_caller]
    pub fn find(&self, field: &str, value: &str) -> Answer {
        let found = self.items().into_iter().find(|entry| entry.get(field).is(value));
        found.unwrap_or_else(|| panic!("no {field} is {value} in {:#}", self.value))
    }

    /// Whether it is this text.
    pub fn is(&self, text: &str) -> bool {
        self.value == text
    }

    /// Whether there is nothing.
    pub fn is_null(&self) -> bool {
        self.value.is_null()
    }

    /// A text.
    #[track_caller]
    pub fn text(&self) -> String {
        self.value.as_str().unwrap_or_else(|| panic!("{:#} is no text", self.value)).to_owned()
    }

    /// A number.
    #[track_caller]
    pub fn number(&self) -> u64 {
        self.value.as_u64().unwrap_or_else(|| panic!("{:#} is no number", self.value))
    }

    /// A flag.
    #[track_caller]
    pub fn flag(&self) -> bool {
        self.value.as_bool().unwrap_or_else(|| panic!("{:#} is no flag", self.value))
    }

    /// All of it, unread.
    pub fn raw(&self) -> &Value {
        &self.value
    }

    /// Of an error, its data.
    fn only_data(mut self) -> Answer {
        self.value = self.value["data"].take();
        self
    }
}

/// The type that a schema names, through the ways in which one says that a value may be missing or has a description.
fn resolve(schema: &Value) -> (String, Value) {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return (name.to_owned(), document()["components"]["schemas"][name].clone());
    }
    let branches =
        ["anyOf", "allOf", "oneOf"].iter().flat_map(|way| schema[way].as_array().into_iter().flatten());
    let named = branches.map(resolve).find(|(name, _)| !name.is_empty());
    named.unwrap_or_else(|| (String::new(), schema.clone()))
}

/// The schema of a list, named or not.
fn list_schema(schema: &Value) -> Value {
    if schema.get("items").is_some() { schema.clone() } else { resolve(schema).1 }
}
