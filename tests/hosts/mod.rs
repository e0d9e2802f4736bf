//! Whoever answers requests, for tests that ask all of them the same.
#![allow(clippy::unwrap_used, reason = "what cannot be set up ends the test")]

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use api::{Api, Method, Operation, Place};
use modelforge::desktop;
use reqwest::{Client, RequestBuilder, Url};
use serde_json::{Map, Value, json};
use server::{ServeOptions, Server, serve};
use tauri::{
    App, WebviewWindow, WebviewWindowBuilder, async_runtime,
    ipc::{CallbackFn, InvokeBody, InvokeResponseBody},
    test::{INVOKE_KEY, MockRuntime, get_ipc_response, mock_builder, mock_context, noop_assets},
    webview::InvokeRequest,
};

/// What came of a request, or `{"status_code", "detail"}`; of a stream, the list of its items.
pub type Answer = Result<Value, Value>;

/// Whoever answers requests.
pub trait Host: fmt::Debug {
    /// Asks and waits; for a stream, until it has ended.
    fn answer(&self, operation: &'static Operation, request: Map<String, Value>) -> Answer;
}

/// The operation itself.
pub struct Itself(pub Arc<Api>);

/// A page in a window of Tauri's mock runtime.
pub struct Window {
    page: WebviewWindow<MockRuntime>,
    /// What was sent to a channel of the page.
    items: Arc<Mutex<Vec<Value>>>,
    _app: App<MockRuntime>,
}

impl Host for Itself {
    fn answer(&self, operation: &'static Operation, request: Map<String, Value>) -> Answer {
        let answer = async {
            if !operation.is_stream() {
                return operation.call(&self.0, request).await;
            }
            let mut items = operation.stream(&self.0, request).await?;
            let mut list = Vec::new();
            while let Some(item) = items.recv().await {
                list.push(json!(item?));
            }
            Ok(Value::Array(list))
        };
        async_runtime::block_on(answer).map_err(|error| json!(error))
    }
}

impl Window {
    const CHANNEL: u32 = 7;

    /// A window whose commands are the operations.
    pub fn open(api: Arc<Api>) -> Self {
        let items = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&items);
        let app = mock_builder()
            .invoke_handler(desktop::operations::invoke_handler(api))
            .channel_interceptor(move |_, channel, index, body| {
                let mut received = received.lock().unwrap();
                assert_eq!((channel.0, index), (Self::CHANNEL, received.len()), "items come in order");
                received.push(body.clone().deserialize().unwrap());
                true
            })
            .build(mock_context(noop_assets()))
            .unwrap();
        let page = WebviewWindowBuilder::new(&app, "main", Default::default()).build().unwrap();
        Self { page, items, _app: app }
    }

    /// What `invoke(command, body)` of a page resolves with or is rejected with.
    pub fn invoke(&self, command: &str, body: InvokeBody) -> Answer {
        let origin = if cfg!(windows) { "http://tauri.localhost" } else { "tauri://localhost" };
        let request = InvokeRequest {
            cmd: command.into(),
            callback: CallbackFn(0),
            error: CallbackFn(1),
            url: origin.parse().unwrap(),
            body,
            headers: Default::default(),
            invoke_key: INVOKE_KEY.into(),
        };
        get_ipc_response(&self.page, request).map(|body| InvokeResponseBody::deserialize(body).unwrap())
    }
}

impl Host for Window {
    fn answer(&self, operation: &'static Operation, mut request: Map<String, Value>) -> Answer {
        if !operation.is_stream() {
            return self.invoke(operation.name, Value::Object(request).into());
        }
        self.items.lock().unwrap().clear();
        request.insert("channel".into(), json!(format!("__CHANNEL__:{}", Self::CHANNEL)));
        let sent = self.invoke(operation.name, Value::Object(request).into())?;
        let items = std::mem::take(&mut *self.items.lock().unwrap());
        assert_eq!(sent, items.len(), "a stream resolves with the number of its items");
        Ok(Value::Array(items))
    }
}

/// The server of the REST API.
pub struct Rest {
    server: Server,
    client: Client,
}

impl Rest {
    /// A server that answers on a port of this machine.
    pub fn open(api: Arc<Api>) -> Self {
        let options = ServeOptions { port: 0, ..ServeOptions::default() };
        let server = async_runtime::block_on(serve(api, options)).unwrap();
        Self { server, client: Client::builder().no_proxy().build().unwrap() }
    }

    /// Each field where its operation has it: in the path, after the question mark, or in the body.
    fn request(&self, operation: &Operation, request: &Map<String, Value>) -> RequestBuilder {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let mut url: Url = self.server.url().parse().unwrap();
        for part in operation.path.trim_start_matches('/').split('/') {
            let field = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            let value = field.map(|field| text(&request[field]));
            url.path_segments_mut().unwrap().pop_if_empty().push(value.as_deref().unwrap_or(part));
        }
        let at = |place| request.iter().filter(move |(field, _)| operation.place(field) == place);
        for (field, value) in at(Place::Query) {
            url.query_pairs_mut().append_pair(field, &text(value));
        }
        let body =
            Value::Object(at(Place::Body).map(|(field, value)| (field.clone(), value.clone())).collect());
        match operation.method {
            Method::Get => self.client.get(url),
            Method::Delete => self.client.delete(url),
            Method::Post => self.client.post(url).json(&body),
            Method::Put => self.client.put(url).json(&body),
        }
    }
}

impl Host for Rest {
    fn answer(&self, operation: &'static Operation, request: Map<String, Value>) -> Answer {
        let (status, text) = async_runtime::block_on(async {
            let response = self.request(operation, &request).send().await.unwrap();
            (response.status(), response.text().await.unwrap())
        });
        if !status.is_success() {
            let mut error = Map::from_iter([("status_code".to_owned(), json!(status.as_u16()))]);
            error.extend(serde_json::from_str::<Map<String, Value>>(&text).unwrap());
            return Err(Value::Object(error));
        }
        if !operation.is_stream() {
            return Ok(serde_json::from_str(&text).unwrap());
        }
        text.split_terminator("\n\n").map(server_sent_event).collect()
    }
}

/// One event of a stream over HTTP: an item, or the error that ends it.
fn server_sent_event(text: &str) -> Answer {
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim_start))
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let data = json(field("data").unwrap());
    match field("event") {
        Some("error") => Err(data),
        event => {
            assert_eq!(event, None, "an item has no other name");
            Ok(json!({"id": field("id").map(json), "data": data}))
        }
    }
}

impl fmt::Debug for Itself {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operation")
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the window")
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server")
    }
}
