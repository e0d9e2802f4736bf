//! How requests are declared: a table with one row a field, holding its name, type, range, default and help.
//!
//! The check of a request, its JSON Schema, the flags of the command line, the app's forms and the reference pages all
//! come from such tables.

mod check;
mod schema;

pub use check::{MAX_LONG_TEXT, MAX_TEXT, read};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{FieldError, Strategy};

/// The largest number that a field without an upper end takes.
pub const MANY: i64 = i32::MAX as i64;

/// What values a field takes.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    /// One of these.
    Choice {
        /// The JSON spellings.
        values: &'static [&'static str],
    },
    /// A name, path or other short text that is not blank.
    Text,
    /// Text of any kind up to the size of a book, not blank.
    LongText,
    /// A list of texts that are not blank.
    TextList,
    /// true or false.
    Bool,
    /// A whole number in a range, ends included.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A number in a range.
    Float {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
        /// Which ends of the range are allowed.
        ends: Ends,
    },
    /// A JSON value with a structure of its own.
    Json {
        /// What it is.
        #[serde(skip)]
        of: JsonType,
    },
}

/// Which ends of a range belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// Both.
    Both,
    /// The smaller one.
    Lower,
    /// The larger one.
    Upper,
}

/// What a field is when a request leaves it out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum Fallback {
    /// It cannot be left out.
    Required,
    /// This text.
    Text(&'static str),
    /// This number.
    Int(i64),
    /// This number.
    Float(f64),
    /// This value.
    Bool(bool),
    /// Found out later, as the sentence says; `null` asks for the same.
    Found(&'static str),
    /// Depends on the strategy, as the sentence says.
    ByStrategy(&'static str),
}

/// One row of a table.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Field {
    /// Its JSON name.
    pub name: &'static str,
    /// What values it takes.
    #[serde(flatten)]
    pub kind: Kind,
    /// What it is when left out.
    pub default: Fallback,
    /// What it does, for people.
    pub help: &'static str,
    /// The strategies that it has an effect with; all where none is named.
    #[serde(skip_serializing_if = "<[Strategy]>::is_empty")]
    pub only: &'static [Strategy],
}

/// The check and the schema of a Rust type's JSON.
#[derive(Debug, Clone, Copy)]
pub struct JsonType {
    read: fn(&Value) -> Result<(), serde_json::Error>,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl JsonType {
    /// What `T` reads.
    pub const fn of<T: DeserializeOwned + JsonSchema>() -> Self {
        Self { read: |value| T::deserialize(value).map(drop), schema: SchemaGenerator::subschema_for::<T> }
    }
}

/// What a request says, checked. Declared with [`fields!`](crate::fields).
pub trait Input: Sized + DeserializeOwned {
    /// The table of its fields, in the order people meet them.
    const FIELDS: &'static [Field];

    /// Checks a request and fills in what it leaves out.
    ///
    /// # Errors
    /// Every bad field: unknown, missing, of the wrong type or out of range.
    fn read(request: &Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        read(Self::FIELDS, request, Field::fallback)
    }
}

impl Field {
    /// Whether `null` stands for "left out".
    pub fn nullable(&self) -> bool {
        matches!(self.default, Fallback::Found(_))
    }

    /// Whether it has an effect with a strategy.
    pub fn goes_with(&self, strategy: Strategy) -> bool {
        self.only.is_empty() || self.only.contains(&strategy)
    }

    /// The value where a request has none; `null` where that is found out later.
    pub fn fallback(&self) -> Value {
        match self.default {
            Fallback::Text(text) => json!(text),
            Fallback::Int(n) => json!(n),
            Fallback::Float(x) => json!(x),
            Fallback::Bool(b) => json!(b),
            Fallback::Required | Fallback::Found(_) | Fallback::ByStrategy(_) => Value::Null,
        }
    }

    /// The JSON Schema of a request with these fields.
    pub fn request_schema(fields: &[Self], generator: &mut SchemaGenerator) -> Schema {
        schema::object(fields, generator, |field| field.default == Fallback::Required)
    }

    /// The JSON Schema of a checked value with these fields, where all of them stand.
    pub fn value_schema(fields: &[Self], generator: &mut SchemaGenerator) -> Schema {
        schema::object(fields, generator, |_| true)
    }
}

/// Declares a struct by the table of its fields: `name: type, kind, default, "help";`, and after the help the strategies that it
/// has an effect with where that is not all. A field that older files of the struct lack has `#[serde(default)]` before it: what
/// it is there.
#[macro_export]
macro_rules! fields {
    ($(#[$meta:meta])* $vis:vis struct $Name:ident {
        $($(#[$of:meta])* $name:ident: $type:ty, $kind:expr, $default:expr, $help:literal $(, $only:expr)?;)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        $vis struct $Name { $(#[doc = $help] $(#[$of])* pub $name: $type,)* }

        impl $Name {
            const TABLE: &'static [$crate::field::Field] = &[$($crate::field::Field {
                name: stringify!($name), kind: $kind, default: $default, help: $help,
                only: { let only: &'static [$crate::Strategy] = &[]; $(let _ = only; let only = $only;)? only },
            },)*];
        }
    };
}
