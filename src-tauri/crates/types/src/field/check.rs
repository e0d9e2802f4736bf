//! From JSON to checked values: every problem at once, each with its field.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Ends, Fallback, Field, Kind, MANY};
use crate::FieldError;

/// The most characters of a short text: no path or name is longer.
pub const MAX_TEXT: usize = 4096;
/// The most characters of a long text.
pub const MAX_LONG_TEXT: usize = 1 << 20;

/// Checks a request against a table. `default` gives what is left out and has no fixed value.
///
/// # Errors
/// Every bad field: unknown, missing, of the wrong type or out of range.
pub fn read<T: DeserializeOwned>(
    fields: &'static [Field],
    request: &Map<String, Value>,
    default: impl Fn(&Field) -> Value,
) -> Result<T, Vec<FieldError>> {
    let mut errors: Vec<FieldError> = request
        .keys()
        .filter(|key| !fields.iter().any(|field| field.name == *key))
        .map(|key| FieldError::unknown(&cut(key), nearest(fields, key)))
        .collect();
    let mut full = Map::new();
    for field in fields {
        match request.get(field.name).filter(|value| !(value.is_null() && field.nullable())) {
            Some(value) => match field.kind.check(field.name, value) {
                Ok(clean) => {
                    full.insert(field.name.into(), clean);
                }
                Err(error) => errors.push(error),
            },
            None if field.default == Fallback::Required => errors.push(FieldError::missing(field.name)),
            None => {
                full.insert(field.name.into(), default(field));
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    serde_json::from_value(Value::Object(full)).map_err(|e| vec![FieldError::wrong_type("", e.to_string())])
}

impl Kind {
    /// The value as it is stored, or what is wrong with it.
    pub fn check(&self, field: &str, value: &Value) -> Result<Value, FieldError> {
        let wrong_type = |want: &str| {
            FieldError::wrong_type(field, format!("must be {want}, not {}", cut(&value.to_string())))
        };
        match *self {
            Kind::Bool => {
                value.is_boolean().then(|| value.clone()).ok_or_else(|| wrong_type("true or false"))
            }
            Kind::Text | Kind::LongText => {
                let text = value.as_str().ok_or_else(|| wrong_type("text"))?;
                self.check_text(field, text)?;
                Ok(value.clone())
            }
            Kind::TextList => {
                let list = value.as_array().ok_or_else(|| wrong_type("a list of texts"))?;
                if list.is_empty() {
                    return Err(FieldError::value(field, "must not be empty"));
                }
                list.iter().map(|item| Kind::Text.check(field, item)).collect::<Result<Vec<_>, _>>()?;
                Ok(value.clone())
            }
            Kind::Choice { values } => {
                let text = value.as_str().ok_or_else(|| wrong_type(&format!("one of {}", quoted(values))))?;
                if !values.contains(&text) {
                    let msg = format!("Invalid {field}: {}. Must be one of {}", cut(text), quoted(values));
                    return Err(FieldError::value(field, msg));
                }
                Ok(value.clone())
            }
            Kind::Int { min, max } => {
                let n = whole_number(value).ok_or_else(|| wrong_type("a whole number"))?;
                if n < min || n > max {
                    let upper = if max >= MANY { String::new() } else { format!(" and at most {max}") };
                    return Err(FieldError::value(field, format!("must be at least {min}{upper}, not {n}")));
                }
                Ok(json!(n))
            }
            Kind::Float { min, max, ends } => {
                let x = value.as_f64().ok_or_else(|| wrong_type("a number"))?;
                let above = if ends == Ends::Upper { x > min } else { x >= min };
                let below = if ends == Ends::Lower { x < max } else { x <= max };
                if !(x.is_finite() && above && below) {
                    let low = if ends == Ends::Upper { "above" } else { "at least" };
                    let high = if ends == Ends::Lower { "below" } else { "at most" };
                    let upper = if max == f64::MAX { String::new() } else { format!(" and {high} {max}") };
                    return Err(FieldError::value(field, format!("must be {low} {min}{upper}, not {x}")));
                }
                Ok(json!(x))
            }
            Kind::Json { of } => {
                let value = whole_numbers(value);
                (of.read)(&value).map_err(|e| FieldError::wrong_type(field, cut(&e.to_string())))?;
                Ok(value)
            }
        }
    }

    fn check_text(&self, field: &str, text: &str) -> Result<(), FieldError> {
        let most = if matches!(self, Kind::LongText) { MAX_LONG_TEXT } else { MAX_TEXT };
        let length = text.chars().count();
        if length > most {
            let msg = format!("must be at most {most} characters long, not {length}");
            return Err(FieldError::value(field, msg));
        }
        if text.trim().is_empty() {
            return Err(FieldError::value(field, "must not be blank"));
        }
        if text.contains('\0') {
            return Err(FieldError::value(field, "must not contain a NUL character"));
        }
        Ok(())
    }

    /// Reads the text of a command-line flag or a query as a JSON value of this kind; [`Kind::check`] judges it then.
    pub fn parse_flag(&self, text: &str) -> Value {
        match self {
            Kind::Bool => text.parse().map_or_else(|_| json!(text), Value::Bool),
            Kind::Int { .. } => text.parse::<i64>().map_or_else(|_| json!(text), |n| json!(n)),
            Kind::Float { .. } => text.parse::<f64>().map_or_else(|_| json!(text), |x| json!(x)),
            Kind::TextList => json!(text.split(',').map(str::trim).collect::<Vec<_>>()),
            Kind::Json { .. } => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            Kind::Text | Kind::LongText | Kind::Choice { .. } => json!(text),
        }
    }
}

/// 3.0 is a whole number too: some clients know only floating-point numbers.
fn whole_number(value: &Value) -> Option<i64> {
    let whole = |x: &f64| x.fract() == 0.0 && x.abs() < -(i64::MIN as f64);
    value.as_i64().or_else(|| value.as_f64().filter(whole).map(|x| x as i64))
}

/// The value with every whole number in it written as one, so that it is read as any other.
fn whole_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            whole_number(value).map_or_else(|| value.clone(), Value::from)
        }
        Value::Array(items) => items.iter().map(whole_numbers).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), whole_numbers(value))).collect()
        }
        plain => plain.clone(),
    }
}

fn quoted(values: &[&str]) -> String {
    format!("[{}]", values.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", "))
}

/// What a message shows of something that a request said.
fn cut(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The field whose name is closest to a misspelt one, if any is close.
fn nearest(fields: &'static [Field], name: &str) -> Option<&'static str> {
    if name.len() > 64 {
        return None;
    }
    fields
        .iter()
        .map(|field| (edit_distance(name, field.name), field.name))
        .min()
        .filter(|(distance, found)| *distance <= 1 + found.len() / 4)
        .map(|(_, found)| found)
}

/// Levenshtein distance in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
