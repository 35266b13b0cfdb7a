//! Guarantees: from what an operator says to what a sidecore runs.

use vfiomux_policy::{Answer, Channel as PolicyChannel, Tune};
use vfiomux_qos::{CostModel, Guarantees, Io, Limits, Program, Rate};
use vfiomux_rpc::{Caller, Change, ErrorCode, RateLimit, RpcError, Ticket, call};
use vfiomux_sidecore::Order;

use super::Control;
use super::admission::holder;
use super::question::{guarantees_of, policy_channel, policy_guarantees};
use crate::lifecycle::{Life as _, NotAllowed, Step};

/// The request in which reservations are counted.
pub(crate) const RESERVED: Io = Io::read(4096);

/// A tune that a plugin wants and nobody asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// The plugin, and the channel's id.
    pub(crate) key: (String, String),
    /// The plugin, and in words what it wants.
    pub(crate) by: String,
    pub(crate) change: Change,
    pub(crate) wanted: call::ChannelTune,
}

/// What came of a tune.
pub(crate) struct Tuned {
    /// The channel's id, or why it runs by what it did before.
    pub(crate) done: Result<String, RpcError>,
    /// What the policies said to it, if it came so far.
    pub(crate) answers: Vec<Answer>,
    /// It was a wish, and that and what came of it is on record.
    pub(crate) on_record: bool,
}

impl Tuned {
    fn unrecorded(done: Result<String, RpcError>, answers: Vec<Answer>) -> Self {
        Self { done, answers, on_record: false }
    }
}

impl Control {
    /// `channel.tune`: journalled, then in force with the sidecore's next breath.
    pub(crate) fn tune(&mut self, ticket: Ticket, caller: Caller, change: Change, wanted: call::ChannelTune) {
        self.tune_for(caller, None, change, wanted, move |control, tuned| {
            control.answer_checked(ticket, tuned.done)
        });
    }

    /// Tunes a channel for an operator, or as a plugin wishes.
    pub(crate) fn tune_for(
        &mut self,
        caller: Caller,
        wish: Option<Wish>,
        change: Change,
        wanted: call::ChannelTune,
        next: impl FnOnce(&mut Control, Tuned) + Send + 'static,
    ) {
        // Held from before the policies are asked until the channel has it (L5).
        let asked = self.tuning(caller, &change, &wanted).and_then(|(id, question)| {
            let channel = self.channel_named(&wanted.name)?;
            let (device, holder) = (channel.device.clone(), holder(channel));
            self.take_reservation(&device, &holder, &wanted.guarantees)?;
            Ok((id, question, device, holder))
        });
        let (id, question, device, holder) = match asked {
            Ok(asked) => asked,
            Err(error) => return next(self, Tuned::unrecorded(Err(error), Vec::new())),
        };
        let asker = wish.is_none().then_some(caller);
        self.ask_heard(&id, asker, question, move |control, allowed, answers| {
            let tuned = allowed.and_then(|allowed| {
                let (id, _) = control.tuning(caller, &change, &wanted)?;
                let guarantees = guarantees_of(&allowed.wanted.guarantees);
                compile(&guarantees)?;
                // What they made of it may be more.
                control.take_reservation(&device, &holder, &guarantees)?;
                let unchanged = control.channel_named(&wanted.name)?.setting.guarantees == guarantees;
                Ok((id, (!unchanged && !change.dry_run).then_some(guarantees)))
            });
            match tuned {
                Ok((id, Some(guarantees))) => {
                    control.tune_now(&id, device, guarantees, wish, answers, next);
                }
                other => {
                    control.give_reservation_back(&device, &holder.id);
                    next(control, Tuned::unrecorded(other.map(|(id, _)| id), answers));
                }
            }
        });
    }

    /// What was reserved on the device before is held until the sidecore runs by the new number (L5).
    ///
    /// A wish is put on record first. Not one that has come to nothing before: it may do so every second, and is put there only
    /// once it is granted.
    fn tune_now(
        &mut self,
        id: &str,
        device: String,
        guarantees: vfiomux_rpc::Guarantees,
        wish: Option<Wish>,
        answers: Vec<Answer>,
        next: impl FnOnce(&mut Control, Tuned) + Send + 'static,
    ) {
        let first = wish.as_ref().filter(|wish| !self.told.is_refused(&wish.key));
        let recorded = first.map(|wish| self.record_wish(wish, &answers));
        let changed = compile(&guarantees).and_then(|program| {
            self.change_setting(id, |setting| setting.guarantees = guarantees)?;
            Ok(program)
        });
        let mut on_record = false;
        if let Some(wish) = wish {
            let serial = match recorded {
                None if changed.is_ok() => self.record_wish(&wish, &answers),
                recorded => recorded.flatten(),
            };
            if let Some(serial) = serial {
                on_record = true;
                let generation = self.channels.get(id).map(|channel| channel.setting.generation);
                self.record_answer(serial, changed.as_ref().map(|_| generation).map_err(RpcError::clone));
            }
            if changed.is_ok() {
                self.tell_amended(id, wish.by);
            }
        }
        let program = match changed {
            Ok(program) => program,
            Err(error) => {
                self.give_reservation_back(&device, id);
                return next(self, Tuned { done: Err(error), answers, on_record });
            }
        };
        self.set_operation(id, Some("being tuned"));
        let owned = id.to_owned();
        self.seat_order(
            id,
            move |seat| Order::SetProgram { channel: seat.id, program: Box::new(program) },
            move |control, _| {
                // A channel without a place, or one that is losing it, gets the program with its next.
                control.give_reservation_back(&device, &owned);
                control.set_operation(&owned, None);
                next(control, Tuned { done: Ok(owned), answers, on_record });
            },
        );
    }

    /// The channel that is to be tuned, and the question that this puts to policies, if nothing else stands in its way.
    fn tuning(
        &self,
        caller: Caller,
        change: &Change,
        wanted: &call::ChannelTune,
    ) -> Result<(String, Tune), RpcError> {
        let id = self.channel_free(&wanted.name, change.expected_generation)?;
        compile(&wanted.guarantees)?;
        let channel = self.channel_named(&wanted.name)?;
        if !channel.setting.oper.may_be_tuned() {
            let refused = NotAllowed { from: channel.setting.oper, step: Step::Resume };
            return Err(RpcError::new(
                ErrorCode::Conflict,
                format!("channel {} cannot be tuned now: {refused}", wanted.name),
            )
            .about(format!("channel {}", wanted.name)));
        }
        let present = policy_channel(channel);
        let question = Tune {
            wanted: PolicyChannel { guarantees: policy_guarantees(&wanted.guarantees), ..present.clone() },
            channel: present,
            device: self.policy_device(&channel.device),
            tenant: self.policy_tenant(&channel.setting.tenant, Some(&id)),
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        };
        Ok((id, question))
    }
}

/// Guarantees as a sidecore runs them.
///
/// # Errors
/// A number that cannot be, named as the protocol names it.
pub(crate) fn compile(asked: &vfiomux_rpc::Guarantees) -> Result<Program, RpcError> {
    let vfiomux_rpc::Guarantees { ops, bytes, read_ops, read_bytes, write_ops, write_bytes, .. } = *asked;
    if asked.objective.is_some_and(|objective| !objective.is_sane()) {
        return Err(RpcError::invalid_argument(
            "guarantees.objective",
            "an objective is a latency above 0 at 1 to 999 of 1000 requests",
        ));
    }
    let cost = CostModel::default();
    let limits = Limits {
        ops: ops.map(rate),
        bytes: bytes.map(rate),
        read_ops: read_ops.map(rate),
        read_bytes: read_bytes.map(rate),
        write_ops: write_ops.map(rate),
        write_bytes: write_bytes.map(rate),
    };
    let reservation = asked.reservation_ops.unwrap_or(0).saturating_mul(u64::from(cost.cost(RESERVED)));
    let share = asked.share.unwrap_or(Guarantees::SHARE_DEFAULT);
    Program::compile(&Guarantees { limits, reservation, share }, cost).map_err(|error| {
        RpcError::invalid_argument("guarantees", error.to_string()).next("see vfiomuxctl channel tune --help")
    })
}

pub(crate) fn rate(limit: RateLimit) -> Rate {
    let RateLimit { per_second, burst } = limit;
    Rate { per_second, burst: burst.unwrap_or((per_second / 10).max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_cannot_be_is_refused_by_name() {
        let limit = |per_second, burst| Some(RateLimit { per_second, burst });
        let asked = vfiomux_rpc::Guarantees { read_ops: limit(0, None), ..Default::default() };
        let refused = compile(&asked).unwrap_err();
        assert!(refused.message.contains("the limit of reads cannot be 0"), "{}", refused.message);
        let asked = vfiomux_rpc::Guarantees { share: Some(10_001), ..Default::default() };
        assert!(compile(&asked).is_err());
        let asked = vfiomux_rpc::Guarantees { reservation_ops: Some(u64::MAX), ..Default::default() };
        assert!(compile(&asked).is_err());
    }

    #[test]
    fn nothing_asked_for_is_the_program_that_promises_nothing() {
        assert_eq!(compile(&vfiomux_rpc::Guarantees::default()).unwrap(), Program::default());
    }
}
