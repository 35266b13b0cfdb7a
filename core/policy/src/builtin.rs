use crate::{Channel, Create, Device, Policy, Tune, Verdict};

/// Longest name of a channel, bytes.
pub const NAME_BYTES_MAX: usize = 63;
/// Longest name of a tenant, bytes.
pub const TENANT_BYTES_MAX: usize = 63;

/// The rules that always hold: names can be told apart and put into a path, sizes and queues can be. It is the first of any
/// [`Chain`](crate::Chain), and knows nothing of tenants' rights. All else it always allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultPolicy;

impl Policy for DefaultPolicy {
    fn name(&self) -> &str {
        "default"
    }

    fn create(&mut self, question: &Create) -> Verdict {
        let Channel { name, tenant, .. } = &question.channel;
        let complaint = channel_complaint(name, tenant)
            .or_else(|| name_complaint("the tenant's name", tenant, TENANT_BYTES_MAX))
            .or_else(|| setting_complaint(&question.channel, &question.device));
        complaint.map_or(Verdict::Allow, Verdict::deny)
    }

    fn tune(&mut self, question: &Tune) -> Verdict {
        let Tune { channel, wanted, device, .. } = question;
        let renamed = wanted.name != channel.name;
        let complaint = renamed
            .then(|| channel_complaint(&wanted.name, &wanted.tenant))
            .flatten()
            .or_else(|| setting_complaint(wanted, device));
        complaint.map_or(Verdict::Allow, Verdict::deny)
    }
}

/// A channel's name is plain, or its tenant's, a full stop, and a plain one: those are the names that a tenant chooses for itself,
/// and nobody else's channel can have one.
fn channel_complaint(name: &str, tenant: &str) -> Option<String> {
    const WHAT: &str = "the channel's name";
    match name.split_once('.') {
        Some((prefix, _)) if prefix != tenant => {
            Some(format!("{WHAT} may begin with {tenant}. and with no other tenant's name"))
        }
        Some((prefix, rest)) => name_complaint(WHAT, rest, NAME_BYTES_MAX.saturating_sub(prefix.len() + 1)),
        None => name_complaint(WHAT, name, NAME_BYTES_MAX),
    }
}

fn name_complaint(what: &str, name: &str, bytes_max: usize) -> Option<String> {
    if name.is_empty() {
        return Some(format!("{what} must be given"));
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.len() > bytes_max || !name.bytes().all(plain) {
        return Some(format!(
            "{what} may have small letters, digits and hyphens, and at most {bytes_max} of them"
        ));
    }
    None
}

fn setting_complaint(channel: &Channel, device: &Device) -> Option<String> {
    let Channel { size_bytes, queues, .. } = *channel;
    if size_bytes == 0 {
        return Some("a channel of no bytes is none".to_owned());
    }
    if queues == 0 {
        return Some("a channel without virtqueues is none".to_owned());
    }
    if queues > device.queues_max {
        let most = device.queues_max;
        return Some(format!("{queues} virtqueues are wanted, and the device can serve {most} to a channel"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Destroy, Tenant, tests::channel};

    fn create(channel: Channel) -> Verdict {
        let device = Device { free_bytes: 1 << 30, queues_max: 4, ..Device::default() };
        let tenant = Tenant::default();
        DefaultPolicy.create(&Create { channel, device, tenant, caller_uid: 0, dry_run: false })
    }

    fn denial(channel: Channel) -> String {
        match create(channel) {
            Verdict::Deny { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sane_channel_is_allowed() {
        assert_eq!(create(channel()), Verdict::Allow);
        assert_eq!(create(Channel { name: "a".repeat(63), queues: 4, ..channel() }), Verdict::Allow);
    }

    #[test]
    fn names_that_could_be_mistaken_are_denied() {
        for name in ["", "A", "a b", "a/b", "../a", "ä", "a\n", &"a".repeat(64)] {
            let name = name.to_owned();
            assert!(denial(Channel { name: name.clone(), ..channel() }).starts_with("the channel's name"));
            assert!(denial(Channel { tenant: name, ..channel() }).starts_with("the tenant's name"));
        }
    }

    #[test]
    fn a_name_that_begins_with_a_tenants_is_that_tenants() {
        assert_eq!(create(Channel { name: "acme.disk-a".into(), ..channel() }), Verdict::Allow);
        for name in ["beta.disk-a", ".disk-a", "acme.", "acme.a.b", &format!("acme.{}", "a".repeat(59))] {
            assert!(
                denial(Channel { name: name.into(), ..channel() }).starts_with("the channel's name"),
                "{name}"
            );
        }
    }

    #[test]
    fn sizes_and_queues_that_cannot_be_are_denied() {
        assert!(denial(Channel { size_bytes: 0, ..channel() }).contains("no bytes"));
        assert!(denial(Channel { queues: 0, ..channel() }).contains("without virtqueues"));
        assert!(denial(Channel { queues: 5, ..channel() }).contains("can serve 4"));
    }

    #[test]
    fn the_end_of_a_channel_is_always_allowed() {
        let channel = Channel { name: "NO NAME".to_owned(), size_bytes: 0, ..channel() };
        let question = Destroy { channel, force: true, caller_uid: 1, dry_run: false };
        assert_eq!(DefaultPolicy.destroy(&question), Verdict::Allow);
    }

    #[test]
    fn a_tuned_setting_is_held_to_the_same_rules() {
        let tune = |wanted| {
            let device = Device { queues_max: 2, ..Device::default() };
            let (channel, tenant) = (channel(), Tenant::default());
            DefaultPolicy.tune(&Tune { channel, wanted, device, tenant, caller_uid: 0, dry_run: false })
        };
        assert_eq!(tune(channel()), Verdict::Allow);
        assert!(matches!(tune(Channel { queues: 3, ..channel() }), Verdict::Deny { .. }));
    }
}
