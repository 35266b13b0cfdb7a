//! Asking policies, on a thread of their own.
//!
//! ```text
//!   operation: check ─► question ─► policy thread: Chain ─► ruling ─► check again ─► act
//!                          └── of generation n ─────────────────────── still n? (P1)
//! ```
//!
//! A policy may be a plugin that takes its time, and the control thread waits for nobody. Nor does a channel: while its
//! policies are being asked, other operations may change it. So a verdict holds for the generation it was asked about and
//! no other, and after it has come an operation makes all its checks again.

use vfiomux_policy::{Chain, Denial, Question, Ruling};
use vfiomux_rpc::{Caller, ErrorCode, EventKind, ObjectKind, RpcError};

use super::Control;
use super::channel::internal;
use super::worker::Idle;
use crate::event::event;
use crate::seeded::{self, Bug};

impl Idle for Chain {
    const EVERY: Option<std::time::Duration> = None;
}

impl Control {
    /// Asks all policies about a channel that is there, then goes on with the question in the form that they allow.
    ///
    /// # Errors
    /// `next` is given a denial, or a conflict when the channel has changed since it was asked about (P1).
    pub(crate) fn ask_about<Q: Question>(
        &mut self,
        id: &str,
        caller: Caller,
        question: Q,
        next: impl FnOnce(&mut Control, Result<Q, RpcError>) + Send + 'static,
    ) {
        let Some(channel) = self.channels.get(id) else {
            return next(self, Err(internal(&"the channel is gone")));
        };
        let (id, name) = (id.to_owned(), channel.setting.name.clone());
        self.policies.run(
            move |chain| chain.ask(question),
            move |control, ruling| {
                let allowed = control
                    .check_unchanged(&id, &name, ruling.generation)
                    .and_then(|()| control.allowed(&name, caller, ruling));
                next(control, allowed);
            },
        );
    }

    /// Asks all policies about a channel that is to come to be, then goes on with the question in the form that they allow.
    pub(crate) fn ask_new<Q: Question>(
        &mut self,
        name: &str,
        caller: Caller,
        question: Q,
        next: impl FnOnce(&mut Control, Result<Q, RpcError>) + Send + 'static,
    ) {
        let name = name.to_owned();
        self.policies.run(
            move |chain| chain.ask(question),
            move |control, ruling| {
                let allowed = control.allowed(&name, caller, ruling);
                next(control, allowed);
            },
        );
    }

    /// Whether a channel is as it was when its policies were asked (P1).
    fn check_unchanged(&self, id: &str, name: &str, asked: u64) -> Result<(), RpcError> {
        let now = self.channels.get(id).map(|channel| channel.setting.generation);
        if now == Some(asked) || seeded::is(Bug::AmendAfterChange) {
            return Ok(());
        }
        let now = now.map_or_else(|| "it is gone".to_owned(), |now| format!("it has generation {now}"));
        Err(RpcError::new(
            ErrorCode::Conflict,
            format!(
                "channel {name} has changed while its policies were asked about generation {asked}: {now}"
            ),
        )
        .about(format!("channel {name}"))
        .next("look at it again with vfiomuxctl channel show, then ask anew"))
    }

    /// What a ruling allows; a denial is recorded.
    fn allowed<Q>(&mut self, name: &str, caller: Caller, ruling: Ruling<Q>) -> Result<Q, RpcError> {
        ruling.outcome.map_err(|Denial { policy, reason }| {
            let mut told = event(EventKind::Denied, ObjectKind::Channel, name);
            (told.reason, told.uid) = (Some(format!("{policy}: {reason}")), Some(caller.uid));
            self.tell(told);
            RpcError::denied(format!("channel {name}"), reason)
        })
    }
}
