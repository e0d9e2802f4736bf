//! The operations as Tauri commands: each by its own name, with the fields and the answers that it has over HTTP. Whatever
//! runtime Tauri has gets the same commands.

use std::sync::Arc;

use api::{Api, Operation};
use serde_json::{Map, Value};
use tauri::{
    Manager, Runtime, Webview,
    ipc::{Channel, Invoke, InvokeBody, InvokeError, InvokeMessage, JavaScriptChannelId},
};
use types::{ApiError, error::FieldError};

/// The argument that names where the items of a stream go.
const CHANNEL: &str = "channel";

/// Answers the commands that are operations, for [`tauri::Builder::invoke_handler`]; `false` for every other command.
///
/// The promise resolves with the answer or is rejected with an [`ApiError`]. An operation that answers item by item
/// takes a Tauri channel as its argument `channel`, sends `{"id", "data"}` to it, and resolves when the stream has ended:
/// with the number of items sent, since large ones can reach the page after that.
pub fn invoke_handler<R: Runtime>(api: Arc<Api>) -> impl Fn(Invoke<R>) -> bool + Send + Sync + 'static {
    move |Invoke { message, resolver, .. }| {
        let Some(operation) = Operation::find(message.command()) else {
            return false;
        };
        let api = Arc::clone(&api);
        resolver
            .respond_async(async move { answer(&api, operation, message).await.map_err(InvokeError::from) });
        true
    }
}

async fn answer<R: Runtime>(
    api: &Arc<Api>,
    operation: &Operation,
    message: InvokeMessage<R>,
) -> Result<Value, ApiError> {
    let fields = fields(message.payload())?;
    if operation.is_stream() {
        stream(api, operation, fields, message.webview()).await.map(Value::from)
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

/// Sends the items of a stream to the page that asked, until there are no more or the page's window is gone. Gives how
/// many were sent.
async fn stream<R: Runtime>(
    api: &Arc<Api>,
    operation: &Operation,
    mut fields: Map<String, Value>,
    webview: Webview<R>,
) -> Result<u64, ApiError> {
    let channel: Channel<_> = channel(fields.remove(CHANNEL))?.channel_on(webview.clone());
    let mut items = operation.stream(api, fields).await?;
    let mut sent = 0;
    while let Some(item) = items.recv().await {
        // Tauri takes messages for a window that was closed, and drops them.
        let open = webview.get_webview_window(webview.label()).is_some();
        if !open || channel.send(item?).is_err() {
            break;
        }
        sent += 1;
    }
    Ok(sent)
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
