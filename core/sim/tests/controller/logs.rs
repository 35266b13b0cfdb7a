use vfiomux_sim::DeviceSpec;
use vfiomux_spec::nvme::feature::{ASYNC_EVENT_CONFIG, EVENTS_WANTED};
use vfiomux_spec::nvme::log::{
    self, CHANGED_NAMESPACES, CriticalWarning, ERROR_INFORMATION, EVENT_ERROR, EVENT_HEALTH, EVENT_NOTICE,
    ErrorEntry, EventResult, HEALTH, HealthLog, SANITIZE_STATUS, SanitizeLog, SanitizeStatus,
};
use vfiomux_spec::nvme::register::submission_doorbell;
use vfiomux_spec::nvme::{NvmOpcode, Status, SubmissionEntry};
use zerocopy::FromBytes;

use crate::host::{Host, PAGE, bytes, small, transfer};

fn log_page(host: &mut Host, lid: u8, len: u16) -> Vec<u8> {
    let page = host.buffer(PAGE);
    let entry = SubmissionEntry::get_log_page(lid, 0, len, page.iova().raw());
    assert_eq!(host.admin_status(entry), Status::SUCCESS);
    bytes(&page, usize::from(len))
}

fn event(host: &mut Host) -> Option<EventResult> {
    host.poll_admin().map(|entry| EventResult::from_bits(entry.dw0.get()))
}

#[test]
fn failed_commands_are_in_the_error_log_newest_first() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(PAGE);
    host.io((&mut sq, &mut cq), SubmissionEntry::flush(9));
    host.io((&mut sq, &mut cq), transfer(NvmOpcode::READ, 1 << 40, 1, &data));
    let page = log_page(&mut host, ERROR_INFORMATION, 128);
    let newest = ErrorEntry::read_from_bytes(&page[..64]).unwrap();
    let older = ErrorEntry::read_from_bytes(&page[64..]).unwrap();
    assert_eq!((newest.error_count.get(), newest.sq_id.get(), newest.lba.get()), (2, 1, 1 << 40));
    assert_eq!(newest.status_field().status(), Status::LBA_OUT_OF_RANGE);
    assert_eq!((older.error_count.get(), older.nsid.get()), (1, 9));
}

#[test]
fn health_counts_what_was_moved() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(PAGE);
    host.io((&mut sq, &mut cq), transfer(NvmOpcode::READ, 0, 8, &data));
    host.sim.crash();
    host.enable();
    let health = HealthLog::read_from_bytes(&log_page(&mut host, HEALTH, 512)).unwrap();
    assert_eq!((health.host_reads.get(), health.data_units_read.get(), health.host_writes.get()), (1, 1, 0));
    assert_eq!(health.unsafe_shutdowns.get(), 1);
}

#[test]
fn log_pages_are_read_in_parts_and_unknown_ones_refused() {
    let mut host = Host::boot(small());
    let page = host.buffer(PAGE);
    let mut part = SubmissionEntry::get_log_page(HEALTH, 0, 4, page.iova().raw());
    part.cdw12.set(508);
    assert_eq!(host.admin_status(part), Status::SUCCESS);
    part.cdw12.set(516);
    assert_eq!(host.admin_status(part), Status::INVALID_FIELD);
    part.cdw12.set(2);
    assert_eq!(host.admin_status(part), Status::INVALID_FIELD);
    let unknown = SubmissionEntry::get_log_page(0x7f, 0, 4, page.iova().raw());
    assert_eq!(host.admin_status(unknown), Status::INVALID_LOG_PAGE);
}

#[test]
fn a_resized_namespace_is_announced_once_until_the_list_is_read() {
    let mut host = Host::boot(DeviceSpec { namespaces: 2, ..small() });
    let config = SubmissionEntry::set_features(ASYNC_EVENT_CONFIG, 0, EVENTS_WANTED.into_bits());
    assert_eq!(host.admin_status(config), Status::SUCCESS);
    host.submit_admin(SubmissionEntry::async_event_request());
    host.submit_admin(SubmissionEntry::async_event_request());
    assert_eq!(event(&mut host), None);
    assert!(host.sim.resize_namespace(2, 1 << 20));
    let notice = event(&mut host).unwrap();
    assert_eq!((notice.kind(), notice.log_page()), (EVENT_NOTICE, CHANGED_NAMESPACES));
    assert!(host.sim.resize_namespace(1, 1 << 20));
    assert_eq!(event(&mut host), None, "silent until the log is read");
    let list = log_page(&mut host, CHANGED_NAMESPACES, 4096);
    assert_eq!(list[..12], [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(event(&mut host).unwrap().kind(), EVENT_NOTICE);
    assert_eq!(host.sim.blocks(2).unwrap(), (1 << 20) / 512);
    assert!(!host.sim.resize_namespace(3, 0));
}

#[test]
fn a_warning_reaches_who_asked_for_it() {
    let mut host = Host::boot(small());
    host.submit_admin(SubmissionEntry::async_event_request());
    host.sim.warn(CriticalWarning::new().with_temperature(true));
    assert_eq!(event(&mut host), None, "nobody asked for health events");
    let config = SubmissionEntry::set_features(ASYNC_EVENT_CONFIG, 0, EVENTS_WANTED.into_bits());
    assert_eq!(host.admin_status(config), Status::SUCCESS);
    host.sim.warn(CriticalWarning::new().with_temperature(true));
    let warning = event(&mut host).unwrap();
    assert_eq!((warning.kind(), warning.information()), (EVENT_HEALTH, log::HEALTH_TEMPERATURE));
    let health = HealthLog::read_from_bytes(&log_page(&mut host, HEALTH, 512)).unwrap();
    assert!(CriticalWarning::from_bits(health.critical_warning).temperature());
}

#[test]
fn a_device_made_to_warn_does_so_once_and_goes_on() {
    let mut host = Host::boot(DeviceSpec { warn_after: Some(1), ..small() });
    let (mut sq, mut cq) = host.pair();
    host.submit_admin(SubmissionEntry::async_event_request());
    let config = SubmissionEntry::set_features(ASYNC_EVENT_CONFIG, 0, EVENTS_WANTED.into_bits());
    assert_eq!(host.admin_status(config), Status::SUCCESS);
    for warns in [false, true] {
        host.submit(&mut sq, SubmissionEntry::flush(1));
        host.sim.run_until_idle();
        assert_eq!(host.poll(&mut cq).unwrap().status(), Status::SUCCESS);
        let said = event(&mut host).map(|event| (event.kind(), event.information()));
        assert_eq!(said, warns.then_some((EVENT_HEALTH, log::HEALTH_RELIABILITY)));
    }
}

#[test]
fn a_bad_doorbell_is_an_error_event() {
    let mut host = Host::boot(small());
    let _pair = host.pair();
    host.submit_admin(SubmissionEntry::async_event_request());
    host.bar.write32(submission_doorbell(1, 0), 999).unwrap();
    host.sim.run_until_idle();
    let error = event(&mut host).unwrap();
    assert_eq!((error.kind(), error.information()), (EVENT_ERROR, log::ERROR_INVALID_DOORBELL_VALUE));
    assert_eq!(host.sim.take_violations().len(), 1);
}

#[test]
fn only_so_many_event_requests_are_taken() {
    let mut host = Host::boot(small());
    for _ in 0..4 {
        host.submit_admin(SubmissionEntry::async_event_request());
    }
    assert_eq!(host.admin_status(SubmissionEntry::async_event_request()), Status::ASYNC_EVENT_LIMIT);
}

#[test]
fn sanitize_reports_its_end_and_forgets_erased_at_the_next_write() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    host.submit_admin(SubmissionEntry::async_event_request());
    let cid = host.submit_admin(SubmissionEntry::sanitize(2));
    let (first, second) = (host.poll_admin().unwrap(), host.poll_admin().unwrap());
    assert_eq!(first.cid.get(), cid);
    assert_eq!(EventResult::from_bits(second.dw0.get()).log_page(), SANITIZE_STATUS);
    let status = |host: &mut Host| {
        let page = log_page(host, SANITIZE_STATUS, 512);
        SanitizeStatus::from_bits(SanitizeLog::read_from_bytes(&page).unwrap().status.get())
    };
    assert_eq!((status(&mut host).outcome(), status(&mut host).erased()), (log::SANITIZE_DONE, true));
    let data = host.buffer(PAGE);
    host.io((&mut sq, &mut cq), transfer(NvmOpcode::WRITE, 0, 1, &data));
    assert!(!status(&mut host).erased());
}
