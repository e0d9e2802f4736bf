//! From JSON to a checked [`TrainingConfig`]: every problem at once, each with its field.

use serde_json::{Map, Value, json};

use super::{Ends, FIELDS, Fallback, Field, Kind, TrainingConfig};
use crate::{FieldError, Strategy};

impl TrainingConfig {
    /// Checks a request and fills in what it leaves out.
    ///
    /// # Errors
    /// Every bad field: unknown, missing, of the wrong type, out of range, or at odds with another field.
    pub fn from_json(request: &Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut errors: Vec<FieldError> = request
            .keys()
            .filter(|key| Self::field(key).is_none())
            .map(|key| FieldError::unknown(key, nearest(key)))
            .collect();
        let strategy = request.get("strategy").and_then(Value::as_str).and_then(|s| s.parse().ok());
        let mut full = Map::new();
        for field in FIELDS {
            let given = request.get(field.name).filter(|v| !(v.is_null() && nullable(field)));
            match given {
                Some(value) => match field.kind.check(field.name, value) {
                    Ok(clean) => {
                        full.insert(field.name.into(), clean);
                    }
                    Err(error) => errors.push(error),
                },
                None if field.default == Fallback::Required => errors.push(FieldError::missing(field.name)),
                None => {
                    full.insert(
                        field.name.into(),
                        default(field, strategy.unwrap_or(Strategy::Sft), request),
                    );
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let config: Self = serde_json::from_value(Value::Object(full))
            .map_err(|e| vec![FieldError::wrong_type("", e.to_string())])?;
        let conflicts = config.conflicts();
        if conflicts.is_empty() { Ok(config) } else { Err(conflicts) }
    }

    /// Rules over more than one field.
    fn conflicts(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        let mut check = |bad: bool, field: &str, msg: &str| {
            if bad {
                found.push(FieldError::value(field, msg));
            }
        };
        check(self.use_4bit && self.use_8bit, "use_8bit", "use_4bit and use_8bit cannot both be true");
        check(self.fp16 && self.bf16, "fp16", "fp16 and bf16 cannot both be true");
        check(
            self.strategy == Strategy::Qlora && !self.use_4bit && !self.use_8bit,
            "use_4bit",
            "strategy qlora needs use_4bit or use_8bit",
        );
        check(self.max_steps == 0, "max_steps", "must be -1 (off) or at least 1, not 0");
        check(
            self.provider == Some(crate::Provider::Unsloth) && self.max_seq_length.is_none(),
            "max_seq_length",
            "provider unsloth needs a number here",
        );
        let plain = self.bnb_4bit_compute_dtype == crate::BnbDtype::Float16;
        check(!self.use_4bit && !plain, "bnb_4bit_compute_dtype", "has an effect only with use_4bit");
        let plain = self.bnb_4bit_quant_type == crate::QuantType::Nf4;
        check(!self.use_4bit && !plain, "bnb_4bit_quant_type", "has an effect only with use_4bit");
        check(
            !self.use_4bit && self.use_nested_quant,
            "use_nested_quant",
            "has an effect only with use_4bit",
        );
        found
    }
}

impl Kind {
    /// The value as it is stored, or what is wrong with it.
    pub fn check(&self, field: &str, value: &Value) -> Result<Value, FieldError> {
        let wrong_type =
            |want: &str| FieldError::wrong_type(field, format!("must be {want}, not {}", describe(value)));
        match *self {
            Kind::Bool => {
                value.is_boolean().then(|| value.clone()).ok_or_else(|| wrong_type("true or false"))
            }
            Kind::Text => {
                let text = value.as_str().ok_or_else(|| wrong_type("text"))?;
                if text.trim().is_empty() {
                    return Err(FieldError::value(field, "must not be blank"));
                }
                if text.contains('\0') {
                    return Err(FieldError::value(field, "must not contain a NUL character"));
                }
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
                    let msg = format!("Invalid {field}: {text}. Must be one of {}", quoted(values));
                    return Err(FieldError::value(field, msg));
                }
                Ok(value.clone())
            }
            Kind::Int { min, max } => {
                // 3.0 is a whole number too: some clients know only floating-point numbers.
                let whole = |x: &f64| x.fract() == 0.0 && x.abs() < 9e15;
                let n = value
                    .as_i64()
                    .or_else(|| value.as_f64().filter(whole).map(|x| x as i64))
                    .ok_or_else(|| wrong_type("a whole number"))?;
                if n < min || n > max {
                    let upper =
                        if max >= super::MANY { String::new() } else { format!(" and at most {max}") };
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
        }
    }

    /// Reads the text of a command-line flag as a JSON value of this kind; [`Kind::check`] judges it then.
    pub fn parse_flag(&self, text: &str) -> Value {
        match self {
            Kind::Bool => text.parse().map_or_else(|_| json!(text), Value::Bool),
            Kind::Int { .. } => text.parse::<i64>().map_or_else(|_| json!(text), |n| json!(n)),
            Kind::Float { .. } => text.parse::<f64>().map_or_else(|_| json!(text), |x| json!(x)),
            Kind::TextList => json!(text.split(',').map(str::trim).collect::<Vec<_>>()),
            Kind::Text | Kind::Choice { .. } => json!(text),
        }
    }
}

fn nullable(field: &Field) -> bool {
    matches!(field.default, Fallback::Found(_))
}

fn default(field: &Field, strategy: Strategy, request: &Map<String, Value>) -> Value {
    match field.default {
        Fallback::Text(text) => json!(text),
        Fallback::Int(n) => json!(n),
        Fallback::Float(x) => json!(x),
        Fallback::Bool(b) => json!(b),
        Fallback::Required | Fallback::Found(_) => Value::Null,
        Fallback::ByStrategy(_) if field.name == "learning_rate" => json!(match strategy {
            Strategy::Sft | Strategy::Qlora => 2e-4,
            Strategy::Dpo => 5e-6,
            Strategy::Rlhf => 1.41e-5,
        }),
        Fallback::ByStrategy(_) => {
            json!(strategy == Strategy::Qlora && request.get("use_8bit") != Some(&Value::Bool(true)))
        }
    }
}

fn quoted(values: &[&str]) -> String {
    format!("[{}]", values.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", "))
}

fn describe(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// The setting whose name is closest to a misspelt one, if any is close.
fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > 64 {
        return None;
    }
    FIELDS
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
