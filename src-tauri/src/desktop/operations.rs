//! The operations as Tauri commands: each by its own name, with the fields and the answers that it has over HTTP. Whatever
//! runtime Tauri has gets the same commands.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use api::{Api, Operation};
use serde_json::{Map, Value};
use tauri::{
    Manager, Runtime, Webview,
    ipc::{Channel, Invoke, InvokeBody, InvokeError, InvokeMessage, JavaScriptChannelId},
};
use tokio::sync::oneshot;
use types::{ApiError, error::FieldError};

/// The argument that names where the items of a stream go.
const CHANNEL: &str = "channel";

/// The command that ends a stream for a page that no longer wants it: `{"channel": <the channel's id>}`.
const CLOSE_STREAM: &str = "close_stream";

/// The streams under way: for each window and channel, what ends it when it is dropped.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<HashMap<(String, u32), oneshot::Sender<()>>>>);

/// Whether [`invoke_handler`] answers this command.
pub fn is_command(name: &str) -> bool {
    name == CLOSE_STREAM || Operation::find(name).is_some()
}

/// Answers the commands that are operations, for [`tauri::Builder::invoke_handler`]; `false` for every other command.
///
/// The promise resolves with the answer or is rejected with an [`ApiError`]. An operation that answers item by item
/// takes a Tauri channel as its argument `channel`, sends `{"id", "data"}` to it, and resolves when the stream has ended:
/// with the number of items sent, since large ones can reach the page after that. `close_stream` ends it before.
pub fn invoke_handler<R: Runtime>(api: Arc<Api>) -> impl Fn(Invoke<R>) -> bool + Send + Sync + 'static {
    let open = Open::default();
    move |Invoke { message, resolver, .. }| {
        if message.command() == CLOSE_STREAM {
            resolver.respond(open.close(&message).map_err(InvokeError::from));
            return true;
        }
        let Some(operation) = Operation::find(message.command()) else {
            return false;
        };
        let (api, open) = (Arc::clone(&api), open.clone());
        resolver.respond_async(async move {
            answer(&api, operation, message, &open).await.map_err(InvokeError::from)
        });
        true
    }
}

impl Open {
    /// Drops the end of a stream. One that is over already needs none.
    fn close<R: Runtime>(&self, message: &InvokeMessage<R>) -> Result<Value, ApiError> {
        let fields = fields(message.payload())?;
        let told = match fields.get(CHANNEL) {
            Some(id) => match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) => {
                    self.lock().remove(&(message.webview_ref().label().to_owned(), id));
                    return Ok(Value::Null);
                }
                None => FieldError::wrong_type(CHANNEL, "channel must be the id of a channel"),
            },
            None => FieldError::missing(CHANNEL),
        };
        Err(ApiError::invalid(vec![told]))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, u32), oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer<R: Runtime>(
    api: &Arc<Api>,
    operation: &Operation,
    message: InvokeMessage<R>,
    open: &Open,
) -> Result<Value, ApiError> {
    let fields = fields(message.payload())?;
    if operation.is_stream() {
        stream(api, operation, fields, message.webview(), open).await.map(Value::from)
    } else {
        operation.call(api, fields).await
    }
}

/// The arguments of a command, which are the fields of a request.
fn fields(payload: &InvokeBody) -> Result<Map<String, Value>, ApiError> {
    match payload {
        InvokeBody::Json(Value::Object(fields)) => Ok(fields.clone()),
        InvokeBody::Json(Value::Null) => Ok(Map::new()),
        _ => Err(ApiError::bad_request("The arguments of a command must be a JSON object.")),
    }
}

/// Sends the items of a stream to the page that asked, until there are no more, the page closes it, or the page's window
/// is gone. Gives how many were sent.
async fn stream<R: Runtime>(
    api: &Arc<Api>,
    operation: &Operation,
    mut fields: Map<String, Value>,
    webview: Webview<R>,
    open: &Open,
) -> Result<u64, ApiError> {
    let channel: Channel<_> = channel(fields.remove(CHANNEL))?.channel_on(webview.clone());
    let key = (webview.label().to_owned(), channel.id());
    let (keep, mut closed) = oneshot::channel();
    open.lock().insert(key.clone(), keep);
    let sent = async {
        let mut items = operation.stream(api, fields).await?;
        let mut sent = 0;
        loop {
            // What is left of `items` is dropped at the end, which stops the work on it.
            let item = tokio::select! {
                item = items.recv() => item,
                _ = &mut closed => None,
            };
            let Some(item) = item else { break };
            // Tauri takes messages for a window that was closed, and drops them.
            let there = webview.get_webview_window(webview.label()).is_some();
            if !there || channel.send(item?).is_err() {
                break;
            }
            sent += 1;
        }
        Ok(sent)
    }
    .await;
    open.lock().remove(&key);
    sent
}

fn channel(argument: Option<Value>) -> Result<JavaScriptChannelId, ApiError> {
    let told = match argument {
        None => FieldError::missing(CHANNEL),
        Some(value) => match value.as_str().and_then(|text| text.parse().ok()) {
            Some(channel) => return Ok(channel),
            None => FieldError::wrong_type(CHANNEL, "channel must be a Channel of @tauri-apps/api/core"),
        },
    };
    Err(ApiError::invalid(vec![told]))
}
