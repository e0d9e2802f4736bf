//! The JSON Schemas (draft 2020-12) of all requests and answers, from which the OpenAPI document and the TypeScript
//! types are written.

use std::collections::BTreeSet;

use schemars::{
    SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};
use types::{ApiError, error::Detail, field::Field};

use crate::{OPERATIONS, Operation, UploadedDataset};

/// Where a named type stands in a reference.
const PREFIX: &str = "#/components/schemas/";

/// What requests and answers look like.
pub(crate) struct Schemas {
    /// Named types, by name.
    pub types: Map<String, Value>,
    /// The whole request of each operation, its fields in one object wherever they stand over HTTP.
    pub inputs: Vec<Value>,
    /// The answer of each operation, or one item of its stream.
    pub outputs: Vec<Value>,
}

impl Schemas {
    /// Of every operation of the table, in its order.
    pub fn of_all() -> Self {
        let mut answers = generator(Contract::Serialize);
        answers.subschema_for::<Detail>();
        answers.subschema_for::<ApiError>();
        answers.subschema_for::<UploadedDataset>();
        let outputs: Vec<Value> = OPERATIONS.iter().map(|o| (o.output)(&mut answers).to_value()).collect();
        let mut types = answers.take_definitions(true);

        let mut requests = generator(Contract::Deserialize);
        let mut inputs: Vec<Value> =
            OPERATIONS.iter().map(|o| Field::request_schema(o.fields, &mut requests).to_value()).collect();
        let mut taken = requests.take_definitions(true);
        let split = read_otherwise(&taken, &types);
        inputs.iter_mut().chain(taken.values_mut()).for_each(|schema| redirect(schema, &split));
        for (name, schema) in taken {
            let name = if split.contains(&name) { input_name(&name) } else { name };
            types.insert(name, schema);
        }

        let outputs = OPERATIONS
            .iter()
            .zip(outputs)
            .map(|(operation, schema)| match schema.get("type").and_then(Value::as_str) {
                // A list or a reference needs no name of its own.
                Some("array") => schema,
                None if schema.get("$ref").is_some() => schema,
                _ => {
                    let name = format!("{}Output", pascal_case(operation));
                    types.insert(name.clone(), schema);
                    json!({"$ref": format!("{PREFIX}{name}")})
                }
            })
            .collect();
        types.sort_keys();
        types.values_mut().chain(&mut inputs).for_each(finish);
        Self { types, inputs, outputs }
    }
}

/// `FinetuneStatus` for `finetune_status`.
pub(crate) fn pascal_case(operation: &Operation) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    operation.name.split('_').map(word).collect()
}

/// The name of a type that a reference stands for.
pub(crate) fn referenced(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(PREFIX)
}

/// What is true of the JSON but not in the Rust types' schemas: the largest numbers, and no links of Rust's documentation.
fn finish(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let largest = match object.get("format").and_then(Value::as_str) {
                Some("uint8") => Some(u8::MAX.into()),
                Some("uint16") => Some(u16::MAX.into()),
                Some("uint32") => Some(u32::MAX.into()),
                Some("uint" | "uint64") => Some(u64::MAX),
                _ => None,
            };
            if let Some(largest) = largest {
                object.entry("maximum").or_insert_with(|| json!(largest));
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`");
            }
            object.values_mut().for_each(finish);
        }
        Value::Array(list) => list.iter_mut().for_each(finish),
        _ => {}
    }
}

fn generator(contract: Contract) -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.contract = contract;
        })
        .into_generator()
}

fn input_name(name: &str) -> String {
    format!("{name}Input")
}

/// The types that a request may say otherwise than an answer does, such as those with fields that can be left out, and
/// the types made of them.
fn read_otherwise(requests: &Map<String, Value>, answers: &Map<String, Value>) -> BTreeSet<String> {
    let differs =
        |(name, schema): &(&String, &Value)| answers.get(*name).is_some_and(|other| other != *schema);
    let mut found: BTreeSet<String> = requests.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    loop {
        let before = found.len();
        for (name, schema) in requests {
            if answers.contains_key(name) && refers_to(schema, &found) {
                found.insert(name.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn refers_to(schema: &Value, names: &BTreeSet<String>) -> bool {
    referenced(schema).is_some_and(|name| names.contains(name))
        || match schema {
            Value::Object(object) => object.values().any(|value| refers_to(value, names)),
            Value::Array(list) => list.iter().any(|value| refers_to(value, names)),
            _ => false,
        }
}

/// Makes references to `names` ones to the types of requests.
fn redirect(schema: &mut Value, names: &BTreeSet<String>) {
    if let Some(name) = referenced(schema).filter(|name| names.contains(*name)) {
        let target = format!("{PREFIX}{}", input_name(name));
        schema["$ref"] = json!(target);
    }
    match schema {
        Value::Object(object) => object.values_mut().for_each(|value| redirect(value, names)),
        Value::Array(list) => list.iter_mut().for_each(|value| redirect(value, names)),
        _ => {}
    }
}
