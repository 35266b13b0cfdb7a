//! What a tenant is shown: every method of the table is called as a tenant, with names of its own, of another's and of nobody's.

use serde_json::{Map, Value, json};
use vfiomux_rpc::{Change, Client, ClientError, ErrorCode, EventStream, Notice, call, schema};

use super::world::{World, assert_refused, refusal};
use crate::seeded::Bug;

const SPEC: &str = "sim:nvme,size=128M";
/// The tenant that calls.
const OWN: &str = "acme";
/// The tenant that is not to be heard of. Every name and path of its objects holds this word.
const OTHER: &str = "zebra";
/// As long as the other's, and nobody's.
const NOBODY: &str = "yebra";

/// Two tenants' channels, with some life behind them.
struct Zoo {
    world: World,
    /// What no answer may hold.
    secrets: Vec<String>,
}

impl Zoo {
    fn new(bug: Option<Bug>) -> Self {
        let mut world = World::idle(&[SPEC]);
        world.bug = bug;
        world.start();
        let mut secrets = vec![OTHER.to_owned()];
        for (name, tenant) in
            [("acme.disk", OWN), ("plain", OWN), ("zebra.hoard", OTHER), ("zebra-vault", OTHER)]
        {
            let wanted = call::ChannelCreate { tenant: tenant.to_owned(), ..world.creation(name, 8) };
            let made = world.call(&wanted).unwrap();
            if tenant == OTHER {
                secrets.push(made.id);
            }
        }
        let mut events = Zoo { world, secrets };
        events.stir();
        events
    }

    /// Has something happen to channels of both.
    fn stir(&mut self) {
        for name in ["plain", "zebra-vault"] {
            self.world.suspend(name).unwrap();
            self.world.resume(name).unwrap();
            self.world.resize(name, 4).unwrap();
        }
        self.world.destroy("zebra.hoard", false).unwrap();
    }

    fn tenant(&self) -> Client {
        let mut client = self.world.client();
        client.call(&call::CallerConfine { tenant: OWN.to_owned() }).unwrap();
        client
    }

    #[track_caller]
    fn assert_silent(&self, about: &str, said: &str) {
        for secret in &self.secrets {
            assert!(!said.contains(secret.as_str()), "{about} tells of {secret} (C5): {said}");
        }
    }
}

/// Parameters of a method, with a name where one is wanted.
fn params_of(method: &Value, name: &str, tenant: &str, world: &World) -> Map<String, Value> {
    let listed = method["params"].as_array().into_iter().flatten();
    let fill = |param: &Value| {
        let field = param["name"].as_str()?;
        let value = match field {
            "name" => json!(name),
            "tenant" => json!(tenant),
            "device" => json!("sim0"),
            "endpoint" => json!({ "path": world.endpoint(name).path }),
            "size_bytes" => json!(4 << 20),
            "guarantees" => json!({}),
            "mode" => json!("adaptive"),
            "dry_run" => json!(true),
            "force" => json!(true),
            "since" => json!(0),
            _ if param["required"] != true => return None,
            _ => match param["schema"]["type"].as_str() {
                Some("integer") => json!(1),
                Some("boolean") => json!(false),
                Some("array") => json!([]),
                Some("string") => json!(name),
                _ => json!({}),
            },
        };
        Some((field.to_owned(), value))
    };
    listed.filter_map(fill).collect()
}

fn ask(client: &mut Client, method: &str, params: Map<String, Value>) -> String {
    match client.call_by_name(method, &Value::Object(params)) {
        Ok(value) => value.to_string(),
        Err(ClientError::Refused(error)) => serde_json::to_string(&error).unwrap(),
        Err(error) => panic!("{method}: {error}"),
    }
}

fn walk(bug: Option<Bug>) {
    let zoo = Zoo::new(bug);
    let document = schema::document();
    for method in document["methods"].as_array().unwrap() {
        let name = method["name"].as_str().unwrap();
        if matches!(name, "rpc.discover" | "events.subscribe" | "caller.confine") {
            continue;
        }
        for own in ["acme.disk", "plain"] {
            let said = ask(&mut zoo.tenant(), name, params_of(method, own, OWN, &zoo.world));
            zoo.assert_silent(&format!("{name} about {own}"), &said);
        }
        // What is asked about another's objects is answered word for word as what is asked about nobody's.
        for others in ["zebra-vault", "zebra.hoard"] {
            let about = |word: &str| {
                let object = others.replace(OTHER, word);
                ask(&mut zoo.tenant(), name, params_of(method, &object, word, &zoo.world))
            };
            let (told, untold) = (about(OTHER), about(NOBODY).replace(NOBODY, OTHER));
            assert_eq!(steady(&told), steady(&untold), "{name} tells {others} from nothing (C5)");
        }
    }
}

/// An answer without what changes by itself from one moment to the next.
fn steady(said: &str) -> String {
    let mut value: Value = serde_json::from_str(said).unwrap();
    strip(&mut value);
    value.to_string()
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|field, _| {
                !field.ends_with("_ns")
                    && !field.ends_with("_ms")
                    && !matches!(field.as_str(), "rest" | "busy_permille")
            });
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// C5: no answer and no refusal of any method names what is another tenant's, or tells it from what does not exist.
#[test]
fn no_method_names_another_tenants_objects() {
    walk(None);
}

/// C5's seeded bug.
#[test]
#[should_panic(expected = "(C5)")]
fn a_daemon_that_lists_all_to_everybody_is_caught() {
    walk(Some(Bug::ListAll));
}

/// C5: a tenant is told of what happens to its own channels, from the past and as it comes, and of nothing else.
#[test]
fn events_tell_a_tenant_of_its_own_channels_alone() {
    let mut zoo = Zoo::new(None);
    let mut follow: EventStream = zoo.tenant().subscribe(Some(0)).unwrap();
    zoo.world.suspend("zebra-vault").unwrap();
    zoo.world.destroy("zebra-vault", true).unwrap();
    zoo.world.suspend("plain").unwrap();
    let mut seen = 0;
    loop {
        let Notice::Event(event) = follow.next().unwrap().unwrap() else { panic!("there was no gap") };
        assert_eq!(event.tenant.as_deref(), Some(OWN));
        zoo.assert_silent("an event", &serde_json::to_string(&event).unwrap());
        seen += 1;
        if event.object.name == "plain" && event.to.as_deref() == Some("suspended") && seen > 12 {
            break;
        }
    }
    let listed = refusal(zoo.tenant().call(&call::EventsList { since: None, limit: None })).unwrap();
    assert_eq!(listed.events.len(), seen);
    zoo.secrets.clear();
}

#[test]
fn a_tenant_makes_and_ends_channels_of_its_own_and_of_nobody_else() {
    let zoo = Zoo::new(None);
    let mut tenant = zoo.tenant();
    let wanted = |name: &str, tenant: &str| call::ChannelCreate {
        tenant: tenant.to_owned(),
        endpoint: None,
        ..zoo.world.creation(name, 4)
    };
    let made = tenant.call(&wanted("acme.new", OWN)).unwrap();
    assert_eq!(made.tenant, OWN);
    assert_refused(refusal(tenant.call(&wanted("new", OWN))), ErrorCode::InvalidArgument, "acme.new");
    assert_refused(refusal(tenant.call(&wanted("zebra.new", OTHER))), ErrorCode::Permission, "whoami");
    let attach = call::ChannelAttach { name: "acme.new".to_owned(), endpoint: zoo.world.endpoint("new") };
    assert_refused(refusal(tenant.call(&attach)), ErrorCode::Permission, "roles.tenants.acme.endpoints");
    let gone = tenant.call(&call::ChannelDestroy { name: "acme.new".to_owned(), force: false });
    assert_eq!(gone.unwrap().name, "acme.new");
    let audit = tenant.call(&call::AuditList { since: None, limit: None }).unwrap();
    assert!(audit.entries.iter().all(|entry| entry.tenant.as_deref() == Some(OWN)));
    let list = tenant.call(&call::ChannelList { tenant: None }).unwrap();
    assert_eq!(list.iter().map(|channel| channel.name.as_str()).collect::<Vec<_>>(), ["acme.disk", "plain"]);
    let status = tenant.call(&call::StatusShow {}).unwrap();
    assert_eq!((status.channels, status.sidecores.len()), (2, 0));
}

#[test]
fn every_change_is_on_record_with_who_asked_what_was_said_and_what_became_of_it() {
    let mut world = World::new(SPEC);
    world.create("disk", 8);
    let id = Change { request_id: Some("once".to_owned()), dry_run: true, ..Change::default() };
    let resize = call::ChannelResize { name: "disk".to_owned(), size_bytes: 4 << 20 };
    world.call_with(&resize, &id).unwrap();
    world.resize("disk", 4).unwrap();
    let bad = call::ChannelCreate { name: "Bad Name".to_owned(), ..world.creation("disk", 8) };
    assert_refused(world.call(&bad), ErrorCode::Denied, "");
    let mut tenant = world.client();
    tenant.call(&call::CallerConfine { tenant: "nobody".to_owned() }).unwrap();
    let destroy = call::ChannelDestroy { name: "disk".to_owned(), force: true };
    assert_refused(refusal(tenant.call(&destroy)), ErrorCode::NotFound, "list");
    let set = call::SidecoreSet { index: 0, mode: vfiomux_rpc::SidecoreMode::Poll };
    assert_refused(refusal(tenant.call(&set)), ErrorCode::Permission, "roles.admin");

    let list = |world: &World| world.call(&call::AuditList { since: None, limit: None }).unwrap().entries;
    let entries = list(&world);
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let answer = entry.answer.as_ref().unwrap();
            (entry.method.as_str(), entry.dry_run, answer.error.is_none(), answer.generation_after)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("channel.create", false, true, Some(1)),
            ("channel.resize", true, true, Some(1)),
            ("channel.resize", false, true, Some(2)),
            ("channel.create", false, false, None),
            ("channel.destroy", false, false, None),
            ("sidecore.set", false, false, None),
        ]
    );
    assert_eq!((entries[1].request_id.as_deref(), entries[2].generation_before), (Some("once"), Some(1)));
    assert_eq!(entries[0].pid.unsigned_abs(), std::process::id());
    let ruling = &entries[3].rulings[0];
    assert_eq!((ruling.policy.as_str(), ruling.verdict.as_str()), ("default", "deny"));
    assert_eq!(
        (entries[4].confined_to.as_slice(), &entries[4].tenant),
        (["nobody".to_owned()].as_slice(), &None)
    );
    world.restart();
    assert_eq!(list(&world)[..6], entries);
}
