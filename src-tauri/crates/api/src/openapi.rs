//! The OpenAPI document of the REST interface, written from the table of operations.

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use types::{Input, field::Field};

use crate::{OPERATIONS, Operation, UPLOAD_PATH, UploadInput, operation::Place, schemas::Schemas};

/// The statuses of refusals, with the name and the meaning that the document gives them.
const REFUSALS: &[(u16, &str, &str)] = &[
    (400, "BadRequest", "The request is not as documented, or cannot be done as things are."),
    (401, "Unauthorized", "The server wants an access token, and the request has none or a wrong one."),
    (403, "Forbidden", "A model or repository cannot be reached, or a page of another site asks."),
    (404, "NotFound", "Nothing has this id."),
    (408, "RequestTimeout", "The request took too long to arrive."),
    (413, "ContentTooLarge", "The body is larger than any valid request."),
    (415, "UnsupportedMediaType", "The body is not declared as what it must be."),
    (500, "InternalServerError", "What went wrong is not the caller's fault."),
];

/// The OpenAPI 3.1 document of every operation.
pub fn openapi() -> Value {
    let schemas = Schemas::of_all();
    let mut paths = Map::new();
    let mut tags: Vec<&str> = Vec::new();
    for ((operation, input), output) in OPERATIONS.iter().zip(&schemas.inputs).zip(schemas.outputs) {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        methods[operation.method.name().to_lowercase()] = describe(operation, input, output);
        if !tags.contains(&operation.group()) {
            tags.push(operation.group());
        }
    }
    paths.insert(UPLOAD_PATH.into(), json!({"post": upload()}));
    let mut types = schemas.types;
    types.insert(
        "Refusal".into(),
        json!({
            "type": "object",
            "description": "Why a request was refused.",
            "properties": {"detail": {"$ref": "#/components/schemas/Detail"}},
            "required": ["detail"],
            "additionalProperties": false,
        }),
    );
    types.sort_keys();
    let refusals = REFUSALS.iter().map(|(_, name, meaning)| {
        let body = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}});
        ((*name).to_owned(), json!({"description": meaning, "content": body}))
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ModelForge",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Fine-tune a language model on your own computer and talk to it.",
            "license": {"name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": "/", "description": "`modelforge serve`"}],
        "security": [{}, {"bearer": []}],
        "tags": tags.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": types,
            "responses": refusals.collect::<Map<_, _>>(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token that the server was started with, if it was.",
                },
            },
        },
    })
}

/// The one route that is no operation: its body is a file of any size, which no other host has to be sent.
fn upload() -> Value {
    let input = Field::request_schema(UploadInput::FIELDS, &mut SchemaGenerator::default()).to_value();
    let fields = input["properties"].as_object().into_iter().flatten();
    let parameters: Vec<Value> = fields
        .filter_map(|(name, schema)| Some(parameter(name, Place::Query, schema.as_object()?.clone(), true)))
        .collect();
    json!({
        "operationId": "datasets_upload",
        "tags": ["datasets"],
        "summary": "Takes a dataset that is on another machine.",
        "parameters": parameters,
        "requestBody": {
            "required": true,
            "description": "The file itself.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        "responses": responses(
            json!({
                "description": "The answer.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/UploadedDataset"}}},
            }),
            &[400, 401, 403, 408, 413, 415, 500],
        ),
    })
}

fn responses(success: Value, errors: &[u16]) -> Value {
    let mut responses = Map::from_iter([("200".to_owned(), success)]);
    for status in errors {
        if let Some((_, name, _)) = REFUSALS.iter().find(|(known, ..)| known == status) {
            let reference = format!("#/components/responses/{name}");
            responses.insert(status.to_string(), json!({"$ref": reference}));
        }
    }
    responses.into()
}

fn describe(operation: &Operation, input: &Value, output: Value) -> Value {
    let mut described = Map::new();
    described.insert("operationId".into(), json!(operation.name));
    described.insert("tags".into(), json!([operation.group()]));
    described.insert("summary".into(), json!(operation.help));
    let parameters = parameters(operation, input);
    if !parameters.is_empty() {
        described.insert("parameters".into(), parameters.into());
    }
    if let Some(body) = body(operation, input) {
        described.insert("requestBody".into(), body);
    }
    let responses = responses(success(operation, output), &operation.errors());
    described.insert("responses".into(), responses);
    described.into()
}

fn parameters(operation: &Operation, input: &Value) -> Vec<Value> {
    let mut parameters: Vec<Value> = fields_in(operation, input, |place| place != Place::Body)
        .map(|(name, schema, required)| parameter(name, operation.place(name), schema, required))
        .collect();
    if operation.is_stream() && operation.fields.iter().any(|field| field.name == "after") {
        parameters.push(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "required": false,
            "description": "The id of the last event that arrived, where a stream that broke off goes on; stands for `after`.",
            "schema": {"type": "integer", "minimum": 0, "maximum": i64::MAX},
        }));
    }
    parameters
}

fn parameter(name: &str, place: Place, mut schema: Map<String, Value>, required: bool) -> Value {
    let description = schema.remove("description");
    json!({
        "name": name,
        "in": place.name(),
        "required": required,
        "description": description,
        "schema": without_null(schema),
    })
}

fn body(operation: &Operation, input: &Value) -> Option<Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, schema, is_required) in fields_in(operation, input, |place| place == Place::Body) {
        properties.insert(name.to_owned(), schema.into());
        if is_required {
            required.push(name);
        }
    }
    if properties.is_empty() {
        return None;
    }
    let is_required = !required.is_empty();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if is_required {
        schema["required"] = json!(required);
    }
    Some(json!({"required": is_required, "content": {"application/json": {"schema": schema}}}))
}

/// The fields that stand in such a place: name, schema, and whether they cannot be left out.
fn fields_in<'a>(
    operation: &'a Operation,
    input: &'a Value,
    wanted: impl Fn(Place) -> bool + 'a,
) -> impl Iterator<Item = (&'a str, Map<String, Value>, bool)> {
    let required = input["required"].as_array().map_or(&[][..], Vec::as_slice);
    let properties = input["properties"].as_object().into_iter().flatten();
    properties.filter_map(move |(name, schema)| {
        let schema = schema.as_object().filter(|_| wanted(operation.place(name)))?;
        Some((name.as_str(), schema.clone(), required.iter().any(|other| other == name)))
    })
}

/// An address has no way to say null: a parameter is there or it is not.
fn without_null(mut schema: Map<String, Value>) -> Value {
    if let Some(Value::Array(kinds)) = schema.get("type") {
        let kind = kinds.iter().find(|kind| *kind != "null").cloned().unwrap_or_default();
        schema.insert("type".into(), kind);
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    schema.into()
}

fn success(operation: &Operation, output: Value) -> Value {
    if !operation.is_stream() {
        return json!({"description": "The answer.", "content": {"application/json": {"schema": output}}});
    }
    json!({
        "description": "Server-sent events until the end of the stream. The `data` of each is one JSON object as \
                        `x-item-schema` says; an `error` event, the last, carries an ApiError.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "x-item-schema": output}},
    })
}
