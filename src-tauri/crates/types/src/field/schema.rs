//! The JSON Schema (draft 2020-12) of a table of fields.

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{Ends, Field, Kind, MAX_LONG_TEXT, MAX_TEXT};

/// Something that is not white space, and no NUL. White space is what Rust's `trim` takes away, written out because
/// `\s` is another set in each dialect of regular expressions.
const NOT_BLANK: &str = concat!(
    r"^[^\u0000]*",
    r"[^\u0000\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
    r"[^\u0000]*$"
);

/// An object with exactly these fields.
pub(super) fn object(
    fields: &[Field],
    generator: &mut SchemaGenerator,
    required: impl Fn(&Field) -> bool,
) -> Schema {
    let mut properties = Map::new();
    for field in fields {
        properties.insert(field.name.to_owned(), Value::Object(of_field(field, generator)));
    }
    let required: Vec<&str> = fields.iter().filter(|f| required(f)).map(|f| f.name).collect();
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema.insert("additionalProperties".into(), json!(false));
    schema.into()
}

fn of_field(field: &Field, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut schema = of_kind(&field.kind, generator);
    if field.nullable() {
        match schema.get("type").cloned() {
            Some(Value::String(one)) => {
                schema.insert("type".into(), json!([one, "null"]));
                if let Some(Value::Array(values)) = schema.get_mut("enum") {
                    values.push(Value::Null);
                }
            }
            _ => {
                let inner = std::mem::take(&mut schema);
                schema.insert("anyOf".into(), json!([inner, {"type": "null"}]));
            }
        }
    }
    schema.insert("description".into(), json!(field.help));
    let default = field.fallback();
    if !default.is_null() {
        schema.insert("default".into(), default);
    }
    schema
}

fn of_kind(kind: &Kind, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let schema = match *kind {
        Kind::Choice { values } => json!({"type": "string", "enum": values}),
        Kind::Text => json!({"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "pattern": NOT_BLANK}),
        Kind::LongText => {
            json!({"type": "string", "minLength": 1, "maxLength": MAX_LONG_TEXT, "pattern": NOT_BLANK})
        }
        Kind::TextList => json!({
            "type": "array", "minItems": 1,
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "pattern": NOT_BLANK},
        }),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Float { min, max, ends } => {
            let low = if ends == Ends::Upper { "exclusiveMinimum" } else { "minimum" };
            let high = if ends == Ends::Lower { "exclusiveMaximum" } else { "maximum" };
            let mut schema = Map::new();
            schema.insert("type".into(), json!("number"));
            schema.insert(low.into(), json!(min));
            if max < f64::MAX {
                schema.insert(high.into(), json!(max));
            }
            Value::Object(schema)
        }
        Kind::Json { of } => (of.schema)(generator).to_value(),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}
