use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};

use super::Harness;
use crate::{
    AttachRequest, ClaimRequest, CreateRequest, DestroyRequest, DiscoverRequest, FaultRequest,
    MigrateRequest, PressureRequest, Retune, SessionRequest, TickRequest, TuneRequest, Verdict,
};

/// One question to a policy, as a line of a recording has it: `{"create": {"channel": {"name": "disk-a"}}}`.
///
/// What is left out is empty, or 0. A field that is not known is an error, so that a misspelt one is no silent default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "made one at a time, for tests; a box would be in every author's way"
)]
pub enum Question {
    /// [`Policy::discover`](crate::Policy::discover).
    Discover(DiscoverRequest),
    /// [`Policy::claim`](crate::Policy::claim).
    Claim(ClaimRequest),
    /// [`Policy::create`](crate::Policy::create).
    Create(CreateRequest),
    /// [`Policy::attach`](crate::Policy::attach).
    Attach(AttachRequest),
    /// [`Policy::session`](crate::Policy::session).
    Session(SessionRequest),
    /// [`Policy::tune`](crate::Policy::tune).
    Tune(TuneRequest),
    /// [`Policy::tick`](crate::Policy::tick).
    Tick(TickRequest),
    /// [`Policy::pressure`](crate::Policy::pressure).
    Pressure(PressureRequest),
    /// [`Policy::fault`](crate::Policy::fault).
    Fault(FaultRequest),
    /// [`Policy::migrate`](crate::Policy::migrate).
    Migrate(MigrateRequest),
    /// [`Policy::destroy`](crate::Policy::destroy).
    Destroy(DestroyRequest),
}

/// What a policy answered to one question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The verdict, of a hook that gives one.
    pub verdict: Option<Verdict>,
    /// The new guarantees, of a hook that gives some.
    pub retunes: Vec<Retune>,
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), retunes: Vec::new() }
    }
}

impl From<Vec<Retune>> for Answer {
    fn from(retunes: Vec<Retune>) -> Self {
        Self { verdict: None, retunes }
    }
}

/// A question of a recording, and the answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The line of the recording, from 1.
    pub line: usize,
    /// What was asked.
    pub question: Question,
    /// What was answered.
    pub answer: Answer,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// A line is not a question.
    #[error("line {line} is no question, such as {{\"create\": {{…}}}}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Questions in the order in which they were asked, each with the line it stands on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording(Vec<(usize, Question)>);

impl Recording {
    /// Reads a recording: JSON lines, one question each. Empty lines and lines that begin with `#` say nothing.
    ///
    /// # Errors
    /// [`RecordingError`], with the number of the line.
    pub fn read(from: impl BufRead) -> Result<Self, RecordingError> {
        let mut questions = Vec::new();
        for (index, line) in from.lines().enumerate() {
            let (line, number) = (line?, index + 1);
            let text = line.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let question =
                serde_json::from_str(text).map_err(|source| RecordingError::Line { line: number, source })?;
            questions.push((number, question));
        }
        Ok(Self(questions))
    }

    /// The questions.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        self.0.iter().map(|(_, question)| question)
    }
}

impl Question {
    /// The line that a recording has of it.
    ///
    /// # Panics
    /// Never: all that a question is made of can be said in JSON.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a question is strings, numbers, lists and maps with string keys")
    }
}

impl Harness {
    /// Asks one question, whatever it is.
    pub fn ask(&mut self, question: &Question) -> Answer {
        match question {
            Question::Discover(request) => self.discover(request).into(),
            Question::Claim(request) => self.claim(request).into(),
            Question::Create(request) => self.create(request).into(),
            Question::Attach(request) => self.attach(request).into(),
            Question::Session(request) => self.session(request).into(),
            Question::Tune(request) => self.tune(request).into(),
            Question::Tick(request) => self.tick(request).into(),
            Question::Pressure(request) => self.pressure(request).into(),
            Question::Fault(request) => {
                let (verdict, retunes) = self.fault(request);
                Answer { verdict: Some(verdict), retunes }
            }
            Question::Migrate(request) => self.migrate(request).into(),
            Question::Destroy(request) => self.destroy(request).into(),
        }
    }

    /// Asks every question of a recording, in order.
    pub fn replay(&mut self, recording: &Recording) -> Vec<Exchange> {
        let exchange = |(line, question): &(usize, Question)| {
            let answer = self.ask(question);
            Exchange { line: *line, question: question.clone(), answer }
        };
        recording.0.iter().map(exchange).collect()
    }
}
