//! What an answer must look like: JSON in which a text in angle brackets stands for what differs from answer to answer.
//!
//! - `<string|null>`: one of these types, or one of these words; `time` is RFC 3339 in UTC.
//! - `<string as $job>`: the same, and later requests and answers may say `$job` for it.
//! - `text<rest>`: a text that begins so.
//! - `["<each>", shape]`: one or more items of this shape.
//! - A key that ends with `?` may be absent. After the key `…` come any others.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What names that begin with `$` stand for.
#[derive(Default)]
pub struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Lets a name stand for a text from now on.
    pub fn set(&mut self, name: &str, text: impl Into<String>) {
        self.0.insert(name.to_owned(), text.into());
    }

    /// The text with every name replaced, the longest names first.
    pub fn fill(&self, text: &str) -> String {
        self.0.iter().rev().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// The same in every text of a value.
    pub fn fill_all(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(items) => items.iter().map(|item| self.fill_all(item)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| (key.clone(), self.fill_all(value))).collect()
            }
            plain => plain.clone(),
        }
    }

    /// What an answer has that its shape does not allow, or lacks; where in the answer that is stands in front.
    pub fn differs(&mut self, found: &Value, shape: &Value, at: &str) -> Result<(), String> {
        match (shape, found) {
            (Value::String(shape), found) => self.text(found, shape, at),
            (Value::Array(shapes), Value::Array(items)) => match shapes.as_slice() {
                [each, shape] if each == "<each>" => {
                    if items.is_empty() {
                        return Err(format!("{at}: one item or more"));
                    }
                    let mut items = items.iter().enumerate();
                    items.try_for_each(|(i, item)| self.differs(item, shape, &format!("{at}[{i}]")))
                }
                shapes if shapes.len() != items.len() => {
                    Err(format!("{at}: {} items, not {}", shapes.len(), items.len()))
                }
                shapes => shapes
                    .iter()
                    .zip(items)
                    .enumerate()
                    .try_for_each(|(i, (shape, item))| self.differs(item, shape, &format!("{at}[{i}]"))),
            },
            (Value::Object(shape), Value::Object(fields)) => self.object(fields, shape, at),
            (shape, found) if shape == found => Ok(()),
            (shape, found) => Err(format!("{at}: {shape}, not {found}")),
        }
    }

    /// Key by key in the order of the shape.
    fn object(
        &mut self,
        fields: &Map<String, Value>,
        shape: &Map<String, Value>,
        at: &str,
    ) -> Result<(), String> {
        let mut found = fields.iter().peekable();
        for (key, shape) in shape {
            if key == "…" {
                return Ok(());
            }
            let name = key.trim_end_matches('?');
            match found.next_if(|(found, _)| *found == name) {
                Some((_, value)) => self.differs(value, shape, &format!("{at}.{name}"))?,
                None if key.ends_with('?') => {}
                None => return Err(format!("{at}: the key {name} next, not {:?}", found.peek())),
            }
        }
        found.next().map_or(Ok(()), |(key, _)| Err(format!("{at}: no key {key}")))
    }

    fn text(&mut self, found: &Value, shape: &str, at: &str) -> Result<(), String> {
        let wrong = || Err(format!("{at}: {shape}, not {found}"));
        if let Some(kinds) = shape.strip_prefix('<').and_then(|shape| shape.strip_suffix('>')) {
            let (kinds, name) = kinds.split_once(" as ").map_or((kinds, None), |(k, name)| (k, Some(name)));
            if !kinds.split('|').any(|kind| is(found, kind)) {
                return wrong();
            }
            if let Some(name) = name {
                self.set(name, found.as_str().unwrap_or_default());
            }
            return Ok(());
        }
        let text = found.as_str();
        match shape.strip_suffix("<rest>") {
            Some(beginning) if text.is_some_and(|text| text.starts_with(&self.fill(beginning))) => Ok(()),
            None if text == Some(&self.fill(shape)) => Ok(()),
            _ => wrong(),
        }
    }
}

fn is(found: &Value, kind: &str) -> bool {
    match kind {
        "string" => found.is_string(),
        "time" => {
            found.as_str().is_some_and(|text| text.len() >= 20 && text.ends_with('Z') && text.contains('T'))
        }
        "number" => found.is_number(),
        "integer" => found.is_u64(),
        "bool" => found.is_boolean(),
        "null" => found.is_null(),
        "object" => found.is_object(),
        "array" => found.is_array(),
        word => found == word,
    }
}

#[test]
fn a_shape_refuses_what_differs() {
    use serde_json::json;
    let shape =
        json!({"id": "<string as $id>", "state": "<on|off>", "n?": "<integer>", "said": "$id: <rest>"});
    for (answer, right) in [
        (json!({"id": "a", "state": "on", "n": 1, "said": "a: hello"}), true),
        (json!({"id": "a", "state": "off", "said": "a: "}), true),
        (json!({"id": "a", "state": "up", "said": "a: "}), false),
        (json!({"id": 1, "state": "on", "said": "1: "}), false),
        (json!({"id": "a", "state": "on", "n": 1.5, "said": "a: "}), false),
        (json!({"id": "a", "state": "on", "said": "b: "}), false),
        (json!({"id": "a", "state": "on"}), false),
        (json!({"state": "on", "id": "a", "said": "a: "}), false),
        (json!({"id": "a", "state": "on", "said": "a: ", "more": 1}), false),
        (json!([]), false),
    ] {
        let found = Facts::default().differs(&answer, &shape, "");
        assert_eq!(found.is_ok(), right, "{answer}: {found:?}");
    }
    let each = json!(["<each>", {"a": "<null>", "…": ""}]);
    let differs = |answer: Value| Facts::default().differs(&answer, &each, "");
    assert!(differs(json!([{"a": null, "b": 1}, {"a": null}])).is_ok(), "every item has the shape");
    assert!(
        differs(json!([])).is_err() && differs(json!([{"a": null}, {}])).is_err(),
        "every item has the shape"
    );
}
