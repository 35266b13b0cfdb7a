use super::*;

#[test]
fn every_request_code_survives_the_way_there_and_back() {
    for raw in 0..=64 {
        if let Some(request) = FrontendRequest::from_raw(raw) {
            assert_eq!(request as u32, raw);
        }
        if let Some(request) = BackendRequest::from_raw(raw) {
            assert_eq!(request as u32, raw);
        }
    }
    assert_eq!((1..=43).filter(|raw| FrontendRequest::from_raw(*raw).is_some()).count(), 43);
    assert_eq!((1..=8).filter(|raw| BackendRequest::from_raw(*raw).is_some()).count(), 8);
}

#[test]
fn names_are_those_of_the_protocol_document() {
    assert_eq!(FrontendRequest::GetVringBase.name(), "GET_VRING_BASE");
    assert_eq!(FrontendRequest::SetBackendReqFd.name(), "SET_BACKEND_REQ_FD");
    assert_eq!(BackendRequest::ConfigChangeMsg.name(), "CONFIG_CHANGE_MSG");
}

#[test]
fn a_header_tells_version_reply_and_need_reply_apart() {
    let header = Header { request: 1, flags: VERSION | FLAG_NEED_REPLY, size: 0 };
    assert!(header.version() == 1 && header.needs_reply() && !header.is_reply());
}
