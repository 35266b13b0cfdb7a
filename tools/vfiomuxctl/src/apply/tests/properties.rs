//! Whatever was there, and whatever is wanted.

use std::collections::BTreeMap;

use proptest::option;
use proptest::prelude::*;
use vfiomux_rpc::{
    ChannelInfo, Endpoint, EndpointMode, Guarantees, Labels, Limits, Objective, Oper, RateLimit,
};

use super::model::Model;
use super::{EVERYTHING, carry_out, connect, plan_for, template};
use crate::apply::channel::ALLOCATION_UNIT_BYTES;
use crate::apply::desired::{Desired, DesiredChannel, DesiredLimits};
use crate::apply::plan::{Options, Plan};

prop_compose! {
    fn any_rate()(per_second in 1u64..4, burst in option::of(1u64..3)) -> RateLimit {
        RateLimit { per_second, burst }
    }
}

prop_compose! {
    fn any_guarantees()(
        ops in option::of(any_rate()),
        write_bytes in option::of(any_rate()),
        reservation_ops in option::of(1u64..4),
        share in option::of(1u32..4),
        latency_ns in option::of(1u64..3),
    ) -> Guarantees {
        let objective = latency_ns.map(|latency_ns| Objective { permille: 990, latency_ns });
        Guarantees { ops, write_bytes, reservation_ops, share, objective, ..Guarantees::default() }
    }
}

prop_compose! {
    fn any_channel()(
        device in 0..3u8,
        size_bytes in 1u64..(4 << 20),
        queues in 1u16..3,
        endpoint in option::of((0..2u8, any::<bool>())),
        read_only in any::<bool>(),
        label in option::of(0..2u8),
        guarantees in any_guarantees(),
        suspended in any::<bool>(),
    ) -> DesiredChannel {
        let endpoint = endpoint.map(|(at, client)| Endpoint {
            path: format!("/run/{at}").into(),
            mode: if client { EndpointMode::Client } else { EndpointMode::Server },
        });
        let labels = label.map(|label| ("tier".to_owned(), label.to_string()));
        DesiredChannel {
            tenant: "acme".to_owned(),
            device: format!("sim{device}"),
            size_bytes,
            block_bytes: None,
            queues,
            endpoint,
            read_only,
            labels: Labels(labels.into_iter().collect()),
            guarantees,
            suspended,
        }
    }
}

prop_compose! {
    fn any_desired()(
        channels in prop::collection::btree_map("[a-d]", any_channel(), 0..4),
        tenants in prop::collection::btree_map("[t-u]", option::of(any_rate()), 0..2),
    ) -> Desired {
        let limits = |ops| DesiredLimits(Limits { ops, ..Limits::default() });
        Desired { channels, tenants: tenants.into_iter().map(|(name, ops)| (name, limits(ops))).collect() }
    }
}

/// What the daemon has, in the form of what is wanted of it.
fn as_desired(channels: &BTreeMap<String, ChannelInfo>) -> BTreeMap<String, DesiredChannel> {
    let turned = channels.values().cloned().map(|channel| {
        let wanted = DesiredChannel {
            tenant: channel.tenant,
            device: channel.device,
            size_bytes: channel.size_bytes,
            block_bytes: None,
            queues: channel.queues,
            endpoint: channel.endpoint,
            read_only: channel.read_only,
            labels: channel.labels,
            guarantees: channel.guarantees,
            suspended: channel.oper == Oper::Suspended,
        };
        (channel.name, wanted)
    });
    turned.collect()
}

proptest! {
    #[test]
    fn a_plan_that_is_carried_out_gives_what_was_wanted_and_the_next_is_empty(
        before in any_desired(),
        mut wanted in any_desired(),
        connected in any::<bool>(),
    ) {
        let mut model = Model::new(template());
        let first = plan_for(&model, &before, Options::default());
        carry_out(&mut model, first.unwrap());
        if connected {
            model.channels.values_mut().for_each(connect);
        }
        let Ok(plan) = plan_for(&model, &wanted, EVERYTHING) else {
            // Only a guest that is connected can stand in the way of what these files want.
            prop_assert!(connected);
            return Ok(());
        };
        carry_out(&mut model, plan);
        let next = plan_for(&model, &wanted, EVERYTHING);
        prop_assert_eq!(next, Ok(Plan::default()));
        for channel in wanted.channels.values_mut() {
            channel.size_bytes = channel.size_bytes.next_multiple_of(ALLOCATION_UNIT_BYTES);
        }
        prop_assert_eq!(as_desired(&model.channels), wanted.channels);
        for (name, limits) in &wanted.tenants {
            prop_assert_eq!(model.tenants.get(name).map(|t| t.limits).unwrap_or_default(), limits.0);
        }
    }

    #[test]
    fn without_leave_nothing_is_destroyed_and_nothing_becomes_smaller(
        before in any_desired(),
        wanted in any_desired(),
    ) {
        let mut model = Model::new(template());
        let first = plan_for(&model, &before, Options::default());
        carry_out(&mut model, first.unwrap());
        let had = model.channels.clone();
        let Ok(plan) = plan_for(&model, &wanted, Options::default()) else { return Ok(()) };
        let unwanted = had.keys().filter(|name| !wanted.channels.contains_key(*name));
        prop_assert_eq!(&plan.left_alone, &unwanted.cloned().collect::<Vec<_>>());
        carry_out(&mut model, plan);
        for (name, channel) in &had {
            prop_assert!(model.channels[name].size_bytes >= channel.size_bytes);
        }
    }
}
