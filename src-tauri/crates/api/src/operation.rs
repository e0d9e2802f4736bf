//! What an operation is, for the hosts that offer it: a name, a route, a table of fields, and a function from checked
//! input to JSON. Hosts know nothing else of the app.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::FutureExt;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use types::{
    ApiError,
    field::{Field, Input},
};

use crate::Api;

/// The HTTP method of an operation's route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Does something.
    Post,
    /// Puts a value in place of another.
    Put,
    /// Deletes.
    Delete,
}

/// Where a field stands in a request over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path.
    Path,
    /// After the question mark.
    Query,
    /// In the JSON body.
    Body,
}

impl Method {
    /// As HTTP spells it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }
}

impl Place {
    /// As error details and OpenAPI spell it.
    pub fn name(self) -> &'static str {
        match self {
            Place::Path => "path",
            Place::Query => "query",
            Place::Body => "body",
        }
    }
}

/// One operation of the app.
pub struct Operation {
    /// `<group>_<what it does>`, the name of the Tauri command.
    pub name: &'static str,
    /// The method of its route.
    pub method: Method,
    /// Its route, parts that are fields in braces.
    pub path: &'static str,
    /// What it does, in a sentence.
    pub help: &'static str,
    /// What a request says.
    pub fields: &'static [Field],
    /// The JSON Schema of its answer, or of one item of its stream.
    pub output: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) run: Run,
}

/// A future that a host can hold.
pub(crate) type Pending<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send>>;

/// How an operation answers.
pub(crate) enum Run {
    /// Once.
    Once(fn(Arc<Api>, Map<String, Value>) -> Pending<Value>),
    /// Item by item.
    Stream(fn(Arc<Api>, Map<String, Value>) -> Pending<Items>),
}

/// One item of a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// Where a stream that broke off can go on: the field `after` of the next request.
    pub id: Option<u64>,
    /// What the operation's schema says.
    pub data: Value,
}

/// A stream of items. Dropping it ends the work behind it. An error is the last item.
pub type Items = mpsc::Receiver<Result<Item, ApiError>>;

impl Operation {
    /// Whether it answers item by item.
    pub fn is_stream(&self) -> bool {
        matches!(self.run, Run::Stream(_))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// 400 for a bad request, else what the operation documents. A panic inside is a 500.
    pub async fn call(&self, api: &Arc<Api>, request: Map<String, Value>) -> Result<Value, ApiError> {
        match self.run {
            Run::Once(run) => self.guarded(run(Arc::clone(api), request)).await,
            Run::Stream(_) => {
                Err(ApiError::bad_request(format!("{} answers with a stream, not at once", self.name)))
            }
        }
    }

    /// Answers a request item by item.
    ///
    /// # Errors
    /// As [`Operation::call`], for what is wrong before the first item.
    pub async fn stream(&self, api: &Arc<Api>, request: Map<String, Value>) -> Result<Items, ApiError> {
        match self.run {
            Run::Stream(run) => self.guarded(run(Arc::clone(api), request)).await,
            Run::Once(_) => {
                Err(ApiError::bad_request(format!("{} answers at once, not with a stream", self.name)))
            }
        }
    }

    /// Where a field of its requests stands over HTTP.
    pub fn place(&self, field: &str) -> Place {
        match self.method {
            _ if self.path.contains(&format!("{{{field}}}")) => Place::Path,
            Method::Get | Method::Delete => Place::Query,
            Method::Post | Method::Put => Place::Body,
        }
    }

    /// The part of the app it belongs to: the first word of its name.
    pub fn group(&self) -> &'static str {
        self.name.split('_').next().unwrap_or(self.name)
    }

    /// The statuses that a request over HTTP can be refused with, from the smallest to the largest.
    pub fn errors(&self) -> Vec<u16> {
        let has_body = matches!(self.method, Method::Post | Method::Put);
        // Only what is asked for by an id can be unknown.
        let has_id = self.fields.iter().any(|field| field.name == "id" || field.name.ends_with("_id"));
        let mut errors = vec![400, 401, 403];
        errors.extend(has_id.then_some(404));
        errors.push(408);
        errors.extend(has_body.then_some([413, 415]).into_iter().flatten());
        errors.push(500);
        errors
    }

    async fn guarded<T>(&self, work: Pending<T>) -> Result<T, ApiError> {
        let answer = AssertUnwindSafe(work).catch_unwind().await;
        answer
            .unwrap_or_else(|_| Err(ApiError::internal(format!("{} ended unexpectedly", self.name))))
            .map_err(|mut error| {
                if let types::error::Detail::Fields(fields) = &mut error.detail {
                    for field in fields {
                        field.place(self.place(field.field()).name());
                    }
                }
                error
            })
    }
}

/// A request as the handler takes it.
pub(crate) fn read<I: Input>(request: &Map<String, Value>) -> Result<I, ApiError> {
    I::read(request).map_err(ApiError::invalid)
}

/// A handler's answer as JSON.
pub(crate) fn answer(output: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(output).map_err(ApiError::internal)
}

/// The schema of an answer: by reference where its type has a name of its own, which the handlers' `Output` is not.
pub(crate) fn schema<O: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    if O::schema_name() == "Output" { O::json_schema(generator) } else { generator.subschema_for::<O>() }
}

#[cfg(test)]
mod tests {
    use store::{Home, Resources, Store};

    use super::*;
    use crate::Local;

    async fn bug<T>() -> Result<T, ApiError> {
        panic!("a bug")
    }

    #[tokio::test]
    async fn a_handler_that_panics_costs_one_answer() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(Home::at(temp.path()).unwrap()).unwrap();
        let api =
            Arc::new(Api::new(store, Resources::at(temp.path()), Box::new(Local::new("no-such-program"))));
        let health = Operation::find("app_health").unwrap();
        let broken = |run| Operation { name: "app_broken", run, ..*health };

        let once = broken(Run::Once(|_, _| Box::pin(bug())));
        let stream = broken(Run::Stream(|_, _| Box::pin(bug())));
        let beside = broken(Run::Once(|_, _| {
            Box::pin(async { crate::blocking(|| -> Result<Value, ApiError> { panic!("a bug") }).await? })
        }));
        for error in [
            once.call(&api, Map::new()).await.unwrap_err(),
            stream.stream(&api, Map::new()).await.unwrap_err(),
            beside.call(&api, Map::new()).await.unwrap_err(),
        ] {
            assert_eq!(error.status_code, 500, "a panic is an answer: {error}");
            assert!(error.to_string().starts_with("An internal error occurred: "), "a readable one: {error}");
        }
        assert_eq!(health.call(&api, Map::new()).await.unwrap()["status"], "ok", "and the next call works");
    }
}
