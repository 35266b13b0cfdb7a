use super::*;
use crate::{Admin, ChannelKind, Counters, Health, Latency, Oper, Reasons};

fn channel(path: &str, mode: EndpointMode) -> ChannelInfo {
    ChannelInfo {
        name: "disk-a".to_owned(),
        id: "0d9a4d5e-6d0b-4c6e-8f6e-0123456789ab".to_owned(),
        kind: ChannelKind::Block,
        tenant: "acme".to_owned(),
        device: "sim0".to_owned(),
        namespace: 1,
        size_bytes: 256 << 20,
        block_bytes: 512,
        queues: 2,
        read_only: false,
        guarantees: crate::Guarantees::default(),
        labels: crate::Labels::default(),
        serial: None,
        endpoint: Some(Endpoint { path: path.into(), mode }),
        admin: Admin::Enabled,
        oper: Oper::Listening,
        health: Health::Ok,
        reasons: Reasons::default(),
        generation: 1,
        epoch: 1,
        session: None,
        sidecore: None,
        plan: None,
        extents: Vec::new(),
        counters: Counters::default(),
        latency: Latency::default(),
        kept: crate::Kept::default(),
    }
}

fn text(vmm: Vmm, path: &str) -> String {
    match vmm.attachment(&channel(path, EndpointMode::Server)).unwrap() {
        Attachment::Arguments(arguments) => shell_lines(&arguments),
        Attachment::Configuration(text) => text,
    }
}

#[test]
fn qemu_connects_again_and_shares_its_memory() {
    let text = text(Vmm::Qemu, "/run/a.sock");
    assert!(text.contains("-object memory-backend-memfd,id=mem0,size=1G,share=on \\\n"), "{text}");
    assert!(text.contains("socket,id=chardev-disk-a,path=/run/a.sock,reconnect=1"), "{text}");
    assert!(text.contains("vhost-user-blk-pci,id=disk-disk-a,chardev=chardev-disk-a,num-queues=2"), "{text}");
}

#[test]
fn qemu_listens_for_an_endpoint_in_client_mode() {
    let Ok(Attachment::Arguments(arguments)) = Vmm::Qemu.attachment(&channel("/a", EndpointMode::Client))
    else {
        panic!("refused")
    };
    assert!(arguments.contains(&"socket,id=chardev-disk-a,path=/a,server=on,wait=off".to_owned()));
}

#[test]
fn the_others_are_told_what_they_understand() {
    let libvirt = text(Vmm::Libvirt, "/run/a.sock");
    assert!(libvirt.contains("<source type='unix' path='/run/a.sock'>"), "{libvirt}");
    assert!(libvirt.contains("<access mode='shared'/>") && libvirt.contains("queues='2'"), "{libvirt}");
    let cloud_hypervisor = text(Vmm::CloudHypervisor, "/run/a.sock");
    assert!(cloud_hypervisor.contains("--disk vhost_user=true,socket=/run/a.sock,num_queues=2"));
    assert!(cloud_hypervisor.contains("--memory size=1G,shared=on"));
    let firecracker: serde_json::Value =
        serde_json::from_str(&text(Vmm::Firecracker, "/run/a.sock")).unwrap();
    assert_eq!(firecracker["drives"][0]["socket"], "/run/a.sock");
    assert_eq!(firecracker["drives"][0]["drive_id"], "disk_a");
}

#[test]
fn a_path_is_escaped_in_each_language() {
    assert!(text(Vmm::Qemu, "/a,b c").contains("'socket,id=chardev-disk-a,path=/a,,b c,reconnect=1'"));
    assert!(text(Vmm::Libvirt, "/a'b<&").contains("path='/a&apos;b&lt;&amp;'"));
    assert!(text(Vmm::Firecracker, "/a\"b").contains(r#""/a\"b""#));
    let refused = Vmm::CloudHypervisor.attachment(&channel("/a,b", EndpointMode::Server));
    assert!(matches!(refused, Err(AttachmentError::Path { .. })));
    let refused = Vmm::Qemu.attachment(&channel("/a\nb", EndpointMode::Server));
    assert!(matches!(refused, Err(AttachmentError::Path { .. })));
}

#[test]
fn what_cannot_be_attached_is_refused_with_what_to_do() {
    let mut detached = channel("/a", EndpointMode::Server);
    detached.endpoint = None;
    let error = Vmm::Qemu.attachment(&detached).unwrap_err().to_string();
    assert!(error.ends_with("run vfiomuxctl channel attach disk-a --endpoint SOCKET"), "{error}");
    for vmm in [Vmm::Libvirt, Vmm::CloudHypervisor, Vmm::Firecracker] {
        let error = vmm.attachment(&channel("/a", EndpointMode::Client)).unwrap_err();
        assert!(error.to_string().starts_with(vmm.name()), "{error}");
    }
}

#[test]
fn a_word_is_quoted_only_when_a_shell_needs_it() {
    assert_eq!(shell_word("a=b,c/d"), "a=b,c/d");
    assert_eq!(shell_word("it's"), r"'it'\''s'");
    assert_eq!(shell_word(""), "''");
}
