//! The one error shape that crosses the boundary of the app: a status code and a `detail`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldError {
    /// Where the value stands: `["body", "<field>"]`.
    pub loc: Vec<String>,
    /// What is wrong and what would be right.
    pub msg: String,
    /// `value_error`, `missing`, `type_error` or `extra_forbidden`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl FieldError {
    fn new(field: &str, kind: &str, msg: String) -> Self {
        Self { loc: vec!["body".into(), field.into()], msg, kind: kind.into() }
    }

    /// A value of the right type that is not allowed.
    pub fn value(field: &str, msg: impl Into<String>) -> Self {
        Self::new(field, "value_error", msg.into())
    }

    /// A value of the wrong type.
    pub fn wrong_type(field: &str, msg: impl Into<String>) -> Self {
        Self::new(field, "type_error", msg.into())
    }

    /// A required field that is absent.
    pub fn missing(field: &str) -> Self {
        Self::new(field, "missing", format!("Field required: {field}"))
    }

    /// A field that does not exist.
    pub fn unknown(field: &str, nearest: Option<&str>) -> Self {
        let hint = nearest.map(|n| format!(" Did you mean `{n}`?")).unwrap_or_default();
        Self::new(field, "extra_forbidden", format!("Unknown field `{field}`.{hint}"))
    }

    /// Says where the field stands in the request: `body`, `path` or `query`.
    pub fn place(&mut self, place: &str) {
        if let Some(first) = self.loc.first_mut() {
            place.clone_into(first);
        }
    }

    /// The field's name.
    pub fn field(&self) -> &str {
        self.loc.last().map_or("", String::as_str)
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field(), self.msg)
    }
}

/// What an [`ApiError`] tells: a sentence, or one entry a bad field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Detail {
    /// One sentence.
    Text(String),
    /// One entry for each bad field of the request.
    Fields(Vec<FieldError>),
}

impl std::fmt::Display for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Detail::Text(text) => f.write_str(text),
            Detail::Fields(fields) => {
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str("\n")?;
                    }
                    write!(f, "{field}")?;
                }
                Ok(())
            }
        }
    }
}

/// An operation's failure as every host reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    /// 400, 403, 404 or 500.
    pub status_code: u16,
    /// What went wrong.
    pub detail: Detail,
}

impl ApiError {
    /// 400 with a sentence.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self { status_code: 400, detail: Detail::Text(text.into()) }
    }

    /// 400 with the list of bad fields.
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        Self { status_code: 400, detail: Detail::Fields(fields) }
    }

    /// 403: a model that cannot be reached.
    pub fn forbidden(text: impl Into<String>) -> Self {
        Self { status_code: 403, detail: Detail::Text(text.into()) }
    }

    /// 404: an id nothing has.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self { status_code: 404, detail: Detail::Text(text.into()) }
    }

    /// 500 for what is not the caller's fault.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self { status_code: 500, detail: Detail::Text(format!("An internal error occurred: {cause}")) }
    }
}
