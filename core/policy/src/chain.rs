mod replace;

use std::{fmt, time::Instant};

pub use self::replace::{ChainError, Difference, Replaced, StateOffer};

use crate::{DefaultPolicy, Fallback, Fault, PluginEvent, Policy, Pressure, Question, Retune, Tick, Verdict};

/// Several policies as one: all must allow, and what one amends the next is asked about.
///
/// The built-in policy comes first. The others come in order of the number that they were inserted with, and those with the
/// same number in the order in which they were inserted.
///
/// When anything was amended, all are asked once more about the result, which must then satisfy every one as it is: so no
/// policy's amendment gets past an earlier policy's rule, and two that undo each other's amendments deny.
pub struct Chain {
    links: Vec<Link>,
    /// Of policies that are here no more.
    events: Vec<PluginEvent>,
}

struct Link {
    order: i32,
    policy: Box<dyn Policy>,
}

/// What all policies together answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling<Q> {
    /// The generation that was asked about: the ruling holds for no other (P1).
    pub generation: u64,
    /// The question in the form that all allow, with every amendment; or who denies it.
    pub outcome: Result<Q, Denial>,
    /// Who was asked, in order, and what each answered.
    pub answers: Vec<Answer>,
}

/// No.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Name of the policy that denied.
    pub policy: String,
    /// Why, as a phrase that the caller reads.
    pub reason: String,
}

/// What one policy answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Name of the policy.
    pub policy: String,
    /// What it said.
    pub verdict: Verdict,
    /// It was asked once more, about what had been amended.
    pub confirming: bool,
    /// So long it took.
    pub took_ns: u64,
}

/// What a policy wants to change, unasked. It is put to the whole chain as a [`Tune`](crate::Tune) before anything comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Name of the policy.
    pub policy: String,
    /// What it wants.
    pub retune: Retune,
}

/// What policies make of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRuling {
    /// Who first said that the channel shall stay quarantined until an operator acts, and why.
    pub hold: Option<Denial>,
    /// What they want of others.
    pub proposals: Vec<Proposal>,
}

impl<Q> Ruling<Q> {
    /// Names of the policies that amended the question, in order.
    pub fn amended_by(&self) -> impl Iterator<Item = &str> {
        self.answers
            .iter()
            .filter(|answer| !answer.confirming && matches!(answer.verdict, Verdict::Amend(_)))
            .map(|answer| answer.policy.as_str())
    }

    /// Names of the policies that did not answer, and what went wrong with each.
    pub fn unanswered(&self) -> impl Iterator<Item = (&str, &str)> {
        self.answers.iter().filter_map(|answer| match &answer.verdict {
            Verdict::Unanswered { why } => Some((answer.policy.as_str(), why.as_str())),
            _ => None,
        })
    }
}

impl Default for Chain {
    /// The built-in policy alone.
    fn default() -> Self {
        Self { links: vec![Link { order: i32::MIN, policy: Box::new(DefaultPolicy) }], events: Vec::new() }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Chain {
    /// Adds a policy, to be asked after the others.
    pub fn push(&mut self, policy: Box<dyn Policy>) {
        self.insert(i32::MAX, policy);
    }

    /// Adds a policy, to be asked after those of a lower or the same order.
    pub fn insert(&mut self, order: i32, policy: Box<dyn Policy>) {
        // The built-in policy stays the first.
        let at = self.links.iter().skip(1).take_while(|link| link.order <= order).count() + 1;
        self.links.insert(at.min(self.links.len()), Link { order, policy });
    }

    /// Takes a policy out; none when there is none of that name, or it is the built-in one.
    pub fn remove(&mut self, name: &str) -> Option<Box<dyn Policy>> {
        let at = self.links.iter().skip(1).position(|link| link.policy.name() == name)? + 1;
        Some(self.links.remove(at).policy)
    }

    /// Names of all policies, in the order in which they are asked.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|link| link.policy.name())
    }

    /// Asks all.
    pub fn ask<Q: Question>(&mut self, asked: Q) -> Ruling<Q> {
        let mut answers = Vec::with_capacity(self.links.len());
        let generation = asked.generation();
        let outcome = self.outcome(asked, &mut answers);
        Ruling { generation, outcome, answers }
    }

    fn outcome<Q: Question>(&mut self, asked: Q, answers: &mut Vec<Answer>) -> Result<Q, Denial> {
        let mut question = asked;
        let mut amended_by = Vec::new();
        for link in &mut self.links {
            let answer = link.form_allowed(&question, false, answers)?;
            if answer != question {
                amended_by.push(link.policy.name().to_owned());
                question = answer;
            }
        }
        if amended_by.is_empty() {
            return Ok(question);
        }
        for link in &mut self.links {
            if link.form_allowed(&question, true, answers)? != question {
                let reason = format!("it does not agree with what {} amended", amended_by.join(", "));
                return Err(Denial { policy: link.policy.name().to_owned(), reason });
            }
        }
        Ok(question)
    }

    /// Tells all what was measured. Each sees things as they are, not what others want of them.
    pub fn tick(&mut self, tick: &Tick) -> Vec<Proposal> {
        self.tell(|policy| policy.tick(tick))
    }

    /// Tells all that something runs short.
    pub fn pressure(&mut self, pressure: &Pressure) -> Vec<Proposal> {
        self.tell(|policy| policy.pressure(pressure))
    }

    /// Tells all that something went wrong. All are told, also when one has said that the channel shall stay quarantined.
    pub fn fault(&mut self, fault: &Fault) -> FaultRuling {
        let mut ruling = FaultRuling { hold: None, proposals: Vec::new() };
        ruling.proposals = self.tell(|policy| {
            let (verdict, retunes) = policy.fault(fault);
            if let (Verdict::Deny { reason }, None) = (verdict, &ruling.hold) {
                ruling.hold = Some(Denial { policy: policy.name().to_owned(), reason });
            }
            retunes
        });
        ruling
    }

    fn tell(&mut self, mut hook: impl FnMut(&mut dyn Policy) -> Vec<Retune>) -> Vec<Proposal> {
        let mut proposals = Vec::new();
        for Link { policy, .. } in &mut self.links {
            let retunes = hook(policy.as_mut());
            let policy = policy.name();
            proposals
                .extend(retunes.into_iter().map(|retune| Proposal { policy: policy.to_owned(), retune }));
        }
        proposals
    }
}

impl Link {
    /// The question in the form that this policy allows, or why it does not.
    fn form_allowed<Q: Question>(
        &mut self,
        question: &Q,
        confirming: bool,
        answers: &mut Vec<Answer>,
    ) -> Result<Q, Denial> {
        let policy = self.policy.as_mut();
        let begun = Instant::now();
        let verdict = question.put(policy);
        let took_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let name = policy.name();
        let denial = |reason: String| Denial { policy: name.to_owned(), reason };
        let form = match &verdict {
            Verdict::Allow => Ok(question.clone()),
            Verdict::Deny { reason } => Err(denial(reason.clone())),
            Verdict::Amend(amendments) => {
                let mut question = question.clone();
                amendments
                    .iter()
                    .try_for_each(|&amendment| question.amend(amendment))
                    .map(|()| question)
                    .map_err(|error| denial(error.to_string()))
            }
            Verdict::Unanswered { why } => match Q::HOOK.fallback() {
                Fallback::Allow | Fallback::Keep => Ok(question.clone()),
                Fallback::Deny => Err(denial(format!("plugin {name} does not answer: {why}"))),
            },
        };
        answers.push(Answer { policy: name.to_owned(), verdict, confirming, took_ns });
        form
    }
}

#[cfg(test)]
mod tests;
