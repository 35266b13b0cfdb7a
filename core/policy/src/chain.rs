use std::fmt;

use crate::{
    AttachRequest, CreateRequest, DefaultPolicy, DestroyRequest, Policy, Request, TuneRequest, Verdict,
};

/// Several policies as one: all must allow, and what one amends the next is asked about.
///
/// When anything was amended, all are asked once more about the result, which must then satisfy every one as it is: so no
/// policy's amendment gets past an earlier policy's rule, and two that undo each other's amendments deny.
pub struct Chain {
    policies: Vec<Box<dyn Policy>>,
}

/// What all policies together answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling<R> {
    /// Allowed, in this form.
    Allow {
        /// The request, with every amendment.
        request: R,
        /// Names of the policies that amended it, in order.
        amended_by: Vec<String>,
    },
    /// Denied.
    Deny {
        /// Name of the policy that denied it.
        policy: String,
        /// Why, as a phrase that the caller reads.
        reason: String,
    },
}

impl Default for Chain {
    /// The built-in policy alone.
    fn default() -> Self {
        Self { policies: vec![Box::new(DefaultPolicy)] }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.policies.iter().map(|policy| policy.name())).finish()
    }
}

impl Chain {
    /// Adds a policy, to be asked after the others.
    pub fn push(&mut self, policy: Box<dyn Policy>) {
        self.policies.push(policy);
    }

    /// Asks all whether a channel may come to be.
    pub fn create<'a>(&mut self, request: CreateRequest<'a>) -> Ruling<CreateRequest<'a>> {
        self.ask(request, |policy, request| policy.create(request))
    }

    /// Asks all whether a channel's setting may change.
    pub fn tune<'a>(&mut self, request: TuneRequest<'a>) -> Ruling<TuneRequest<'a>> {
        self.ask(request, |policy, request| policy.tune(request))
    }

    /// Asks all whether a channel may have an endpoint.
    pub fn attach<'a>(&mut self, request: AttachRequest<'a>) -> Ruling<AttachRequest<'a>> {
        self.ask(request, |policy, request| policy.attach(request))
    }

    /// Asks all whether a channel may end.
    pub fn destroy<'a>(&mut self, request: DestroyRequest<'a>) -> Ruling<DestroyRequest<'a>> {
        self.ask(request, |policy, request| policy.destroy(request))
    }

    fn ask<R: Request>(&mut self, asked: R, hook: impl Fn(&mut dyn Policy, &R) -> Verdict) -> Ruling<R> {
        let mut request = asked;
        let mut amended_by = Vec::new();
        for policy in &mut self.policies {
            match amended(policy.as_mut(), request, &hook) {
                Ok(answer) if answer != request => {
                    amended_by.push(policy.name().to_owned());
                    request = answer;
                }
                Ok(_) => {}
                Err(reason) => return Ruling::Deny { policy: policy.name().to_owned(), reason },
            }
        }
        if !amended_by.is_empty() {
            for policy in &mut self.policies {
                let reason = match amended(policy.as_mut(), request, &hook) {
                    Ok(answer) if answer == request => continue,
                    Ok(_) => format!("it does not agree with what {} amended", amended_by.join(", ")),
                    Err(reason) => reason,
                };
                return Ruling::Deny { policy: policy.name().to_owned(), reason };
            }
        }
        Ruling::Allow { request, amended_by }
    }
}

/// The request in the form that one policy allows, or why it does not.
fn amended<R: Request>(
    policy: &mut dyn Policy,
    mut request: R,
    hook: &impl Fn(&mut dyn Policy, &R) -> Verdict,
) -> Result<R, String> {
    match hook(policy, &request) {
        Verdict::Allow => Ok(request),
        Verdict::Deny { reason } => Err(reason),
        Verdict::Amend(amendments) => {
            for amendment in amendments {
                request.amend(amendment).map_err(|error| error.to_string())?;
            }
            Ok(request)
        }
    }
}

#[cfg(test)]
mod tests;
