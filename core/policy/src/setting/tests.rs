use super::*;

fn amended(channel: &Channel, setting: Setting, value: u64) -> Result<Channel, AmendError> {
    let mut channel = channel.clone();
    let before = channel.clone();
    let result = channel.amend(Amendment { setting, value });
    if result.is_err() {
        assert_eq!(channel, before, "what is refused changes nothing");
    }
    result.map(|()| channel)
}

#[test]
fn every_setting_takes_some_value() {
    let limit = Some(RateLimit { per_second: 1, burst: None });
    let guarantees = Guarantees {
        ops: limit,
        bytes: limit,
        read_ops: limit,
        read_bytes: limit,
        write_ops: limit,
        write_bytes: limit,
        objective: Some(Objective { permille: 500, latency_ns: 1 }),
        ..Guarantees::default()
    };
    let channel = Channel { guarantees, ..Channel::default() };
    for (setting, name) in Setting::all() {
        let value = if setting == Setting::READ_ONLY { 1 } else { 7 };
        assert_ne!(amended(&channel, setting, value).unwrap(), channel, "{name}");
    }
}

#[test]
fn zero_takes_a_guarantee_away() {
    let mut channel = Channel::default();
    for (setting, _) in Setting::all().filter(|(setting, _)| setting.0 >= 16) {
        // Bursts and percentiles are of something that must be there.
        channel = amended(&channel, setting, 9).unwrap_or(channel);
    }
    assert_eq!(channel.guarantees.ops, Some(RateLimit { per_second: 9, burst: Some(9) }));
    for (setting, _) in Setting::all().filter(|(setting, _)| setting.0 >= 16) {
        channel = amended(&channel, setting, 0).unwrap_or(channel);
    }
    assert_eq!(channel.guarantees, Guarantees::default());
}

#[test]
fn values_that_cannot_be_are_refused() {
    let channel = Channel::default();
    for (setting, value) in [
        (Setting::QUEUES, 1 << 16),
        (Setting::READ_ONLY, 2),
        (Setting::SHARE, 1 << 32),
        (Setting::OPS_BURST, 1),
        (Setting::OBJECTIVE_PERMILLE, 990),
    ] {
        let refused = Amendment { setting, value };
        assert_eq!(amended(&channel, setting, value), Err(AmendError::Value(refused)));
    }
    let with_objective = amended(&channel, Setting::OBJECTIVE_LATENCY_NS, 5).unwrap();
    for permille in [0, 1000, 1 << 16] {
        assert!(amended(&with_objective, Setting::OBJECTIVE_PERMILLE, permille).is_err());
    }
}

#[test]
fn a_number_that_is_no_setting_is_refused() {
    for number in [0, 4, 15, 28, 36, u32::MAX] {
        let refused = AmendError::NoSuchSetting(Setting(number));
        assert_eq!(amended(&Channel::default(), Setting(number), 1), Err(refused));
    }
}

#[test]
fn an_amendment_crosses_as_numbers() {
    let amendment = Amendment { setting: Setting::SHARE, value: 300 };
    let text = serde_json::to_string(&amendment).unwrap();
    assert_eq!(text, r#"{"setting":33,"value":300}"#);
    assert_eq!(serde_json::from_str::<Amendment>(&text).unwrap(), amendment);
}
