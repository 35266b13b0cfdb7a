use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::thread;

use super::*;
use crate::{Endpoint, EndpointMode, ErrorCode};

/// A client of something that reads one line and answers with these bytes.
fn client_of(answer: &'static [u8]) -> Client {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        stream.read_line(&mut String::new()).unwrap();
        stream.get_mut().write_all(answer).unwrap();
    });
    Client::connect(&path).unwrap()
}

fn failure(answer: &'static [u8]) -> ClientError {
    client_of(answer).call(&call::StatusShow {}).unwrap_err()
}

#[test]
fn an_answer_is_found_among_what_else_comes() {
    let answer = br#"{"jsonrpc":"2.0","method":"event","params":{}}
{"jsonrpc":"2.0","id":99,"result":[]}
{"jsonrpc":"2.0","id":1,"result":[]}
"#;
    assert!(client_of(answer).call(&call::DeviceList {}).unwrap().is_empty());
}

#[test]
fn a_refusal_without_an_id_is_to_this_request() {
    let error =
        failure(b"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":\"too long\"}}\n");
    assert!(
        matches!(error, ClientError::Refused(RpcError { code: ErrorCode::InvalidRequest, .. })),
        "{error}"
    );
}

#[test]
fn why_the_daemon_closed_the_connection_is_heard() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let error = RpcError::new(ErrorCode::Busy, "64 clients are connected already");
    theirs.write_all(&codec::write_response(&Id::NULL, Err(&error))).unwrap();
    drop(theirs);
    let mut client = Client { stream: BufReader::new(ours), last_id: 0 };
    let refused = client.call(&call::StatusShow {});
    assert!(matches!(refused, Err(ClientError::Refused(heard)) if heard == error));
}

#[test]
fn a_connection_that_ends_is_told_from_one_that_speaks_otherwise() {
    assert!(matches!(failure(b""), ClientError::Closed));
    assert!(matches!(failure(b"{\"jsonrpc\":\"2.0\",\"id\":1,"), ClientError::Closed), "ended within a line");
    assert!(matches!(failure(b"220 mail.example ESMTP\n"), ClientError::Protocol(_)));
    assert!(matches!(failure(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":7}\n"), ClientError::Protocol(_)));
}

#[test]
fn events_and_gaps_come_in_order_until_the_daemon_ends() {
    let answer = br#"{"jsonrpc":"2.0","id":1,"result":{"gap":{"first_seq":1,"last_seq":2},"last_seq":4}}
{"jsonrpc":"2.0","method":"event","params":{"seq":3,"time_unix_ns":0,"kind":"daemon","object":{"kind":"daemon","name":"vfiomuxd"}}}
{"jsonrpc":"2.0","method":"something_new","params":{}}
{"jsonrpc":"2.0","method":"gap","params":{"first_seq":4,"last_seq":4}}
"#;
    let mut events = client_of(answer).subscribe(Some(0)).unwrap();
    assert_eq!(events.subscription().gap, Some(Gap { first_seq: 1, last_seq: 2 }));
    assert!(matches!(events.next(), Some(Ok(Notice::Event(Event { seq: 3, .. })))));
    assert!(matches!(events.next(), Some(Ok(Notice::Gap(Gap { first_seq: 4, last_seq: 4 })))));
    assert!(events.next().is_none());
}

#[test]
fn a_path_that_has_no_form_in_json_is_not_sent() {
    let path = std::ffi::OsStr::from_bytes(b"/run/\xff").into();
    let endpoint = Endpoint { path, mode: EndpointMode::Server };
    let attach = call::ChannelAttach { name: "a".to_owned(), endpoint };
    let error = client_of(b"").call(&attach).unwrap_err();
    assert!(matches!(error, ClientError::Parameters(_)), "{error}");
}

#[test]
fn a_daemon_that_is_not_there_is_named() {
    let error = Client::connect(Path::new("/nonexistent/control.sock")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/control.sock"), "{error}");
}
