//! Request ids that were used, and the first answers to them.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::ConnectionId;
use crate::codec::Id;
use crate::{Change, ErrorCode, Method, RpcError, View};

/// A request id, and who chose it: neither users nor callers for different tenants see each other's answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    uid: u32,
    view: View,
    request_id: String,
}

/// Whom to give an answer.
type Waiter = (ConnectionId, Option<Id>);
type Answer = Result<Value, RpcError>;

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is to be carried out; with a key, its answer is to be remembered.
    Fresh(Option<Key>),
    /// The first one is under way, and its answer will be given to this one too.
    Wait,
    /// The answer.
    Answer(Answer),
}

#[derive(Debug)]
struct Entry {
    change: Change,
    method: Method,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    UnderWay(Vec<Waiter>),
    Done(Answer),
}

/// The request ids of the last changes. Those under way are always kept; of the others, the latest.
#[derive(Debug)]
pub(super) struct Repeats {
    entries: HashMap<Key, Entry>,
    /// Keys of the changes that are done, the oldest first.
    done: VecDeque<Key>,
    done_max: usize,
}

impl Repeats {
    pub(super) fn new(done_max: usize) -> Self {
        Self { entries: HashMap::new(), done: VecDeque::new(), done_max }
    }

    pub(super) fn admit(
        &mut self,
        uid: u32,
        view: &View,
        change: &Change,
        method: &Method,
        connection: ConnectionId,
        id: &Option<Id>,
    ) -> Admission {
        let Some(request_id) = &change.request_id else { return Admission::Fresh(None) };
        let key = Key { uid, view: view.clone(), request_id: request_id.clone() };
        let Some(entry) = self.entries.get_mut(&key) else {
            let (change, method) = (change.clone(), method.clone());
            self.entries
                .insert(key.clone(), Entry { change, method, progress: Progress::UnderWay(Vec::new()) });
            return Admission::Fresh(Some(key));
        };
        if (&entry.change, &entry.method) != (change, method) {
            let message = format!("request id {request_id} was used for another request");
            let error = RpcError::new(ErrorCode::Conflict, message).about("request_id");
            return Admission::Answer(Err(error.next("choose a new request id")));
        }
        match &mut entry.progress {
            Progress::UnderWay(waiters) => {
                waiters.push((connection, id.clone()));
                Admission::Wait
            }
            Progress::Done(answer) => Admission::Answer(answer.clone()),
        }
    }

    /// Remembers the answer, and says who else waits for it.
    pub(super) fn finish(&mut self, key: &Key, answer: &Answer) -> Vec<Waiter> {
        let Some(entry) = self.entries.get_mut(key) else { return Vec::new() };
        let before = std::mem::replace(&mut entry.progress, Progress::Done(answer.clone()));
        self.done.push_back(key.clone());
        if self.done.len() > self.done_max
            && let Some(oldest) = self.done.pop_front()
        {
            self.entries.remove(&oldest);
        }
        match before {
            Progress::UnderWay(waiters) => waiters,
            Progress::Done(_) => Vec::new(),
        }
    }
}
