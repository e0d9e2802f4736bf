//! From an HTTP request to the fields of an operation.

use std::fmt;

use axum::{
    body::Body,
    extract::{RawPathParams, Request},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE, request::Parts},
};
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value};
use tokio::time::timeout;
use types::{ApiError, FieldError};

use api::{Method, Operation};

use crate::{Limits, answer::refusal};

/// The field by which a stream that broke off goes on.
const AFTER: &str = "after";

/// The fields of a request for `operation`: from the path, and from the query (GET, DELETE) or the body (POST, PUT).
///
/// # Errors
/// 400 for what cannot be read or says a field twice, 408 for a body that does not come, 413 for one that is too large,
/// 415 for one that is no JSON.
pub async fn fields(
    operation: &Operation,
    path: &RawPathParams,
    request: Request,
    limits: &Limits,
) -> Result<Map<String, Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let mut pairs = query(parts.uri.query().unwrap_or_default())?;
    let (mut fields, place) = match operation.method {
        Method::Get | Method::Delete => (from_query(operation, pairs)?, "query"),
        Method::Post | Method::Put if pairs.is_empty() => (from_body(&parts, body, limits).await?, "body"),
        Method::Post | Method::Put => {
            let (name, _) = pairs.swap_remove(0);
            let msg = "the fields of this operation stand in the body, not in the query";
            return Err(invalid(&["query", &name], "extra_forbidden", msg));
        }
    };
    for (name, text) in path {
        if fields.insert(name.to_owned(), value(operation, name, text)).is_some() {
            return Err(invalid(&[place, name], "extra_forbidden", "stands in the path already"));
        }
    }
    if let Some(last) = parts.headers.get("last-event-id")
        && operation.is_stream()
        && operation.fields.iter().any(|field| field.name == AFTER)
    {
        // A browser that connects again asks with the first query and this header: the header is newer.
        let text = String::from_utf8_lossy(last.as_bytes());
        fields.insert(AFTER.to_owned(), value(operation, AFTER, &text));
    }
    Ok(fields)
}

fn from_query(operation: &Operation, pairs: Vec<(String, String)>) -> Result<Map<String, Value>, ApiError> {
    let mut fields = Map::new();
    for (name, text) in pairs {
        let value = value(operation, &name, &text);
        if fields.insert(name.clone(), value).is_some() {
            return Err(invalid(&["query", &name], "value_error", "is there twice"));
        }
    }
    Ok(fields)
}

/// A text of the path or the query as the field's kind of value. What no field is named stays text: the operation
/// refuses it.
fn value(operation: &Operation, name: &str, text: &str) -> Value {
    match operation.fields.iter().find(|field| field.name == name) {
        Some(field) => field.kind.parse_flag(text),
        None => Value::from(text),
    }
}

/// The names and values after the question mark, in their order.
pub fn query(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let decode = |text: &str| match percent_decode_str(&text.replace('+', " ")).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(invalid(&["query"], "value_error", "must be UTF-8")),
    };
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

async fn from_body(parts: &Parts, body: Body, limits: &Limits) -> Result<Map<String, Value>, ApiError> {
    let Ok(bytes) = timeout(limits.body, whole(body, limits.body_bytes)).await else {
        let text = format!("The body did not arrive within {} s.", limits.body.as_secs_f32());
        return Err(refusal(StatusCode::REQUEST_TIMEOUT, text));
    };
    let bytes = bytes?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    if !is_json(&parts.headers) {
        let text = "The body must be JSON: send it with the header Content-Type: application/json.";
        return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Object { fields, twice: None }) => Ok(fields),
        Ok(Object { twice: Some(name), .. }) => {
            Err(invalid(&["body", &name], "value_error", "is there twice"))
        }
        Err(error) if error.is_data() => Err(invalid(&["body"], "json_invalid", "must be a JSON object")),
        Err(error) => Err(invalid(&["body"], "json_invalid", &format!("is no JSON: {error}"))),
    }
}

/// The fields of a JSON object, and a name that stands there twice: programs differ in which of the two values they take.
struct Object {
    fields: Map<String, Value>,
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut object = Object { fields: Map::new(), twice: None };
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if object.fields.insert(name.clone(), value).is_some() {
                object.twice = Some(name);
            }
        }
        Ok(object)
    }
}

async fn whole(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let too_large =
        || refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("The body must be at most {most} bytes long."));
    // Told before any of it is read.
    let least = axum::body::HttpBody::size_hint(&body).lower();
    if usize::try_from(least).is_ok_and(|least| least > most) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ApiError::bad_request("The body broke off."))?;
        if bytes.len() + chunk.len() > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Whether a body says that it is JSON, or nothing.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (None, _) => true,
        (Some(value), None) => value.to_str().is_ok_and(|value| {
            value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        }),
        _ => false,
    }
}

/// 400 for one place of a request.
pub fn invalid(loc: &[&str], kind: &str, msg: &str) -> ApiError {
    let loc = loc.iter().map(|&part| part.to_owned()).collect();
    ApiError::invalid(vec![FieldError { loc, msg: msg.to_owned(), kind: kind.to_owned() }])
}
