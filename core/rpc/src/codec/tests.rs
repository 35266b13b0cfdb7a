use proptest::prelude::*;

use super::*;
use crate::{Endpoint, EndpointMode, call};

fn request(text: &str) -> Incoming {
    read_request(text.as_bytes()).unwrap_or_else(|malformed| panic!("{malformed:?}"))
}

fn refusal(text: &str) -> (Option<Id>, ErrorCode) {
    let malformed = read_request(text.as_bytes()).unwrap_err();
    (malformed.id, malformed.error.code)
}

#[test]
fn a_request_is_read_with_what_it_leaves_out() {
    let incoming = request(
        r#"{"jsonrpc":"2.0","id":"x","method":"channel.create","params":
            {"name":"a","device":"sim0","tenant":"t","size_bytes":4096,"dry_run":true,"request_id":"r"}}"#,
    );
    let Body::Call { change, method } = incoming.body else { panic!("{incoming:?}") };
    let Method::ChannelCreate(create) = *method else { panic!("{method:?}") };
    assert_eq!(
        change,
        Change {
            request_id: Some("r".to_owned()),
            expected_generation: None,
            dry_run: true,
            background: false
        }
    );
    assert_eq!((create.queues, create.endpoint, create.read_only), (1, None, false));
}

#[test]
fn a_request_may_have_no_parameters_and_no_id() {
    let incoming = request(r#"{"jsonrpc":"2.0","method":"status"}"#);
    assert_eq!(incoming.id, None);
    let method = Method::StatusShow(call::StatusShow {});
    assert_eq!(incoming.body, Body::Call { change: Change::default(), method: Box::new(method) });
    assert_eq!(request(r#"{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}"#).body, Body::Discover);
}

#[test]
fn what_is_no_request_gets_the_error_that_the_standard_names() {
    let null = Some(Id::NULL);
    let one = Some(Id::from(1));
    for (text, id, code) in [
        ("{", null.clone(), ErrorCode::Parse),
        ("\u{1}", null.clone(), ErrorCode::Parse),
        ("[]", null.clone(), ErrorCode::InvalidRequest),
        ("3", null.clone(), ErrorCode::InvalidRequest),
        ("{}", null.clone(), ErrorCode::InvalidRequest),
        (r#"{"jsonrpc":"1.0","id":1,"method":"status"}"#, one.clone(), ErrorCode::InvalidRequest),
        (r#"{"jsonrpc":"2.0","id":1}"#, one.clone(), ErrorCode::InvalidRequest),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, one.clone(), ErrorCode::InvalidRequest),
        (r#"{"jsonrpc":"2.0","id":{},"method":"status"}"#, null, ErrorCode::InvalidRequest),
        (r#"{"jsonrpc":"2.0","id":1,"method":"channel.sing"}"#, one.clone(), ErrorCode::MethodNotFound),
        (r#"{"jsonrpc":"2.0","id":1,"method":"status","params":[]}"#, one.clone(), ErrorCode::InvalidParams),
        (r#"{"jsonrpc":"2.0","id":1,"method":"channel.show"}"#, one.clone(), ErrorCode::InvalidParams),
        (r#"{"jsonrpc":"2.0","id":1,"method":"status","params":{"x":1}}"#, one, ErrorCode::InvalidParams),
    ] {
        assert_eq!(refusal(text), (id, code), "{text}");
    }
}

#[test]
fn a_malformed_request_that_wants_no_answer_gets_none() {
    assert_eq!(refusal(r#"{"jsonrpc":"2.0","method":"nonsense"}"#), (None, ErrorCode::MethodNotFound));
}

#[test]
fn only_a_change_may_say_how_it_is_to_be_made() {
    let show = r#"{"jsonrpc":"2.0","id":1,"method":"channel.show","params":{"name":"a","dry_run":true}}"#;
    assert_eq!(refusal(show).1, ErrorCode::InvalidParams);
    let destroy = |id: &str| {
        let params = json!({ "name": "a", "request_id": id });
        read_request(&write_request(&Id::from(1), "channel.destroy", &params))
    };
    assert!(destroy(&"r".repeat(128)).is_ok());
    assert_eq!(destroy(&"r".repeat(129)).unwrap_err().error.data.what, "request_id");
    assert!(destroy("").is_err());
}

#[test]
fn an_error_keeps_what_and_next_on_its_way() {
    let sent = RpcError::not_found("channel a", "run vfiomuxctl channel list");
    let line = write_response(&Id::from(9), Err(&sent));
    let Ok(Message::Response { id, result }) = read_message(&line) else { panic!("{line:?}") };
    assert_eq!((id, result), (Id::from(9), Err(sent)));
}

#[test]
fn a_code_from_a_newer_daemon_is_still_an_error() {
    let line = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32050,"message":"tired"}}"#;
    let Ok(Message::Response { result: Err(error), .. }) = read_message(line) else { panic!("not read") };
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Other(-32050), "tired"));
}

#[test]
fn every_code_keeps_its_number() {
    for code in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_number(code.number()), code);
    }
}

fn name() -> impl Strategy<Value = String> {
    "\\PC{0,20}"
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (name(), any::<bool>()).prop_map(|(path, client)| Endpoint {
        path: path.into(),
        mode: if client { EndpointMode::Client } else { EndpointMode::Server },
    })
}

fn any_method() -> impl Strategy<Value = Method> {
    prop_oneof![
        Just(Method::DeviceList(call::DeviceList {})),
        (name(), any::<bool>())
            .prop_map(|(device, erase)| Method::DeviceFormat(call::DeviceFormat { device, erase })),
        (
            (name(), name(), name(), any::<u64>(), any::<u16>()),
            (proptest::option::of(endpoint()), any::<Option<u32>>(), any::<Option<u32>>(), any::<bool>())
        )
            .prop_map(|((name, device, tenant, size_bytes, queues), rest)| {
                let (endpoint, namespace, block_bytes, read_only) = rest;
                Method::ChannelCreate(call::ChannelCreate {
                    name,
                    device,
                    tenant,
                    size_bytes,
                    queues,
                    endpoint,
                    namespace,
                    block_bytes,
                    read_only,
                    guarantees: crate::Guarantees::default(),
                    labels: crate::Labels::default(),
                })
            }),
        (name(), any::<u64>())
            .prop_map(|(name, size_bytes)| Method::ChannelResize(call::ChannelResize { name, size_bytes })),
        any::<Option<u64>>().prop_map(|since| Method::EventsSubscribe(call::EventsSubscribe { since })),
    ]
}

fn params(method: &Method) -> Value {
    match method {
        Method::DeviceList(call) => serde_json::to_value(call),
        Method::DeviceFormat(call) => serde_json::to_value(call),
        Method::ChannelCreate(call) => serde_json::to_value(call),
        Method::ChannelResize(call) => serde_json::to_value(call),
        Method::EventsSubscribe(call) => serde_json::to_value(call),
        other => panic!("{other:?} is not generated"),
    }
    .unwrap()
}

/// JSON of any shape, made of the words of the protocol as often as of others.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("jsonrpc".to_owned()),
        Just("2.0".to_owned()),
        Just("id".to_owned()),
        Just("method".to_owned()),
        Just("params".to_owned()),
        Just("name".to_owned()),
        Just("request_id".to_owned()),
        Just("channel.destroy".to_owned()),
        name(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(word.clone(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_a_client_writes_the_daemon_reads(method in any_method(), id in any::<u64>()) {
        let line = write_request(&Id::from(id), method.name(), &params(&method));
        prop_assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1, "a request is one line");
        let incoming = read_request(&line).unwrap();
        prop_assert_eq!(incoming.id, Some(Id::from(id)));
        prop_assert_eq!(incoming.body, Body::Call { change: Change::default(), method: Box::new(method) });
    }

    #[test]
    fn no_bytes_bring_the_codec_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_request(&bytes);
        let _ = read_message(&bytes);
    }

    #[test]
    fn no_json_brings_the_codec_down(value in any_json()) {
        let _ = read_request(value.to_string().as_bytes());
        let _ = read_message(value.to_string().as_bytes());
    }

    #[test]
    fn a_refusal_is_always_readable(value in any_json()) {
        if let Err(Malformed { id, error }) = read_request(value.to_string().as_bytes()) {
            let line = write_response(&id.unwrap_or(Id::NULL), Err(&error));
            let read = read_message(&line);
            prop_assert!(matches!(read, Ok(Message::Response { result: Err(_), .. })), "not read");
        }
    }
}
