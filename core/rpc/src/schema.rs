//! The OpenRPC document that `rpc.discover` serves and `docs/rpc.json` keeps, made from the types.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::method::Row;
use crate::{Change, ErrorCode, ErrorData, Event, Gap, Method, codec};

/// The document: every method with its parameters and result, the two notifications, the errors.
#[must_use]
pub fn document() -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let mut methods: Vec<Value> = Method::TABLE.iter().map(|row| method(&mut generator, row)).collect();
    methods.push(json!({
        "name": codec::DISCOVER,
        "summary": "Gives this document.",
        "paramStructure": "by-name",
        "params": [],
        "result": { "name": "document", "schema": { "type": "object" } },
        "x-role": "read",
    }));
    let notifications = [
        notification(codec::EVENT, "Something changed.", generator.subschema_for::<Event>()),
        notification(
            codec::GAP,
            "Things changed that cannot be shown any more.",
            generator.subschema_for::<Gap>(),
        ),
    ];
    let data = generator.subschema_for::<ErrorData>();
    let errors = ErrorCode::ALL.map(|code| {
        let entry = json!({ "code": code.number(), "message": code.name(), "x-data-schema": data });
        (component(code), entry)
    });
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "vfiomuxd control protocol",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "JSON-RPC 2.0 over a unix stream socket, one object a line. Parameters go by name; there are no batches.",
            "license": { "name": "Apache-2.0" },
        },
        "methods": methods,
        "x-notifications": notifications,
        "components": {
            "schemas": generator.take_definitions(true),
            "errors": Map::from_iter(errors),
        },
    })
}

/// The document as it is kept in a file: indented, with a last newline.
#[must_use]
pub fn text() -> String {
    format!("{:#}\n", document())
}

fn component(code: ErrorCode) -> String {
    code.name().replace(' ', "_")
}

fn method(generator: &mut SchemaGenerator, row: &Row) -> Value {
    let mut params = descriptors(&(row.params)(generator));
    if row.is_change {
        params.extend(descriptors(&generator.root_schema_for::<Change>()));
    }
    let errors: Vec<Value> = ErrorCode::ALL
        .iter()
        .map(|&code| json!({ "$ref": format!("#/components/errors/{}", component(code)) }))
        .collect();
    json!({
        "name": row.name,
        "summary": row.summary,
        "paramStructure": "by-name",
        "params": params,
        "result": { "name": "result", "schema": (row.result)(generator) },
        "errors": errors,
        "x-role": row.role.name(),
        "x-changes": row.is_change,
        "x-job": row.is_long,
    })
}

fn notification(name: &str, summary: &str, params: Schema) -> Value {
    json!({ "name": name, "summary": summary, "params": params })
}

/// The properties of an object's schema as OpenRPC content descriptors.
fn descriptors(schema: &Schema) -> Vec<Value> {
    let required = schema.get("required").and_then(Value::as_array);
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let required =
                required.is_some_and(|names| names.iter().any(|value| value.as_str() == Some(name)));
            json!({ "name": name, "required": required, "schema": property })
        })
        .collect()
}

#[cfg(test)]
mod tests;
