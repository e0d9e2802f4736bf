//! The one way from this crate to the network: every request goes through [`Request`].
//!
//! What holds for all of them: nothing is sent in offline mode; the access token goes to the Hub's own address and
//! nowhere else, whatever redirects say; answers are read up to a limit; what may pass is repeated with growing
//! delays, or when the Hub says; an error's text holds neither the token nor an address with a signature.

use std::{future::Future, sync::Arc, time::Duration};

use reqwest::{
    Body, Method, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};
use serde::de::DeserializeOwned;
use url::{Host, Url};

use crate::{
    HubOptions, Offline,
    error::HubError,
    token::{Token, Tokens},
};

/// How often a request is sent at most.
const ATTEMPTS: u32 = 5;
const LONGEST_DELAY: Duration = Duration::from_secs(8);
/// A Hub that asks for more patience than this gets none: the person is told instead.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// The same for a download, which nobody sits and waits for: the Hub counts requests over five minutes.
const PATIENT_RETRY_AFTER: Duration = Duration::from_secs(310);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const MOST_REDIRECTS: usize = 8;
/// The list of files of the largest repositories is a few megabytes.
const LARGEST_ANSWER: usize = 32 << 20;
const LARGEST_REFUSAL: usize = 16 << 10;

/// A shared client of one Hub.
#[derive(Clone)]
pub(crate) struct Http(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    address: String,
    endpoint: Url,
    offline: Offline,
    tokens: Tokens,
    first_delay: Duration,
    silence: Duration,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("endpoint", &self.0.address).field("offline", &self.0.offline).finish()
    }
}

impl Http {
    pub(crate) fn new(options: HubOptions) -> Result<Self, HubError> {
        let bad = |why| HubError::BadEndpoint { address: options.endpoint.chars().take(200).collect(), why };
        let address = options.endpoint.trim().trim_end_matches('/').to_string();
        let endpoint = Url::parse(&address).map_err(|_| bad("it is not a web address"))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host().is_none() {
            return Err(bad("it must start with https:// or http://"));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() || endpoint.query().is_some() {
            return Err(bad("it must not hold a user name, a password or a question mark"));
        }
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("modelforge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // Followed by hand, because what is sent along depends on where a redirect leads.
            .redirect(reqwest::redirect::Policy::none());
        if is_this_machine(&endpoint) {
            // The environment's proxy is on the way to others.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|e| unreachable("set up the connection to the Hub", e))?;
        let HubOptions { offline, tokens, first_delay, silence, .. } = options;
        Ok(Self(Arc::new(Inner { client, address, endpoint, offline, tokens, first_delay, silence })))
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.0.address
    }

    pub(crate) fn offline(&self) -> bool {
        self.0.offline.is_on()
    }

    /// How long a connection may be silent.
    pub(crate) fn silence(&self) -> Duration {
        self.0.silence
    }

    /// Waits before what failed `times` times is tried again: longer each time.
    pub(crate) async fn wait_before(&self, times: u32) {
        let delay = self.0.first_delay.saturating_mul(1 << times.saturating_sub(1).min(10));
        tokio::time::sleep(delay.min(LONGEST_DELAY)).await;
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// An error in offline mode.
    pub(crate) fn online(&self) -> Result<(), HubError> {
        if self.offline() { Err(HubError::Offline) } else { Ok(()) }
    }

    pub(crate) async fn required_token(&self) -> Result<Token, HubError> {
        self.0.tokens.get().await?.ok_or(HubError::NotSignedIn)
    }

    /// An address below the endpoint; each segment is escaped, a slash within one too.
    pub(crate) fn url<'s>(&self, segments: impl IntoIterator<Item = &'s &'s str>) -> Result<Url, HubError> {
        let mut url = self.0.endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend(segments),
            Err(()) => {
                return Err(HubError::BadEndpoint { address: self.0.address.clone(), why: "it has no path" });
            }
        };
        Ok(url)
    }

    /// An address that the Hub names in an answer: a web address, and no less safe than the Hub's own.
    pub(crate) fn named_url(&self, what: &str, text: &str) -> Result<Url, HubError> {
        self.followed(what, &self.0.endpoint, text)
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> Request<'_> {
        Request {
            http: self,
            method,
            url,
            token: None,
            headers: HeaderMap::new(),
            body: None,
            repeat: Repeat::Always,
            follow: true,
            longest_retry_after: LONGEST_RETRY_AFTER,
        }
    }

    fn followed(&self, what: &str, from: &Url, location: &str) -> Result<Url, HubError> {
        let to = from.join(location).map_err(|_| HubError::malformed(what, "it leads to no web address"))?;
        match (from.scheme(), to.scheme()) {
            ("http", "http" | "https") | ("https", "https") => Ok(to),
            _ => Err(HubError::malformed(what, "it leads away from a safe connection")),
        }
    }
}

/// Whether a request may be sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Sending it twice is the same as sending it once.
    Always,
    /// Only while it is certain that the Hub has not begun to carry it out.
    IfNotBegun,
}

type MakeBody<'a> = Box<dyn Fn() -> Body + Send + Sync + 'a>;

/// A request before it is sent.
pub(crate) struct Request<'a> {
    http: &'a Http,
    method: Method,
    url: Url,
    token: Option<&'a Token>,
    headers: HeaderMap,
    body: Option<MakeBody<'a>>,
    repeat: Repeat,
    follow: bool,
    longest_retry_after: Duration,
}

/// An answer that says yes.
pub(crate) struct Answer {
    /// The last answer in a chain of redirects; its body is unread.
    pub response: Response,
    /// The headers of the first answer, which is the Hub's own.
    pub first: HeaderMap,
}

impl<'a> Request<'a> {
    /// Sends the token along, where the address is the Hub's own.
    pub(crate) fn token(mut self, token: Option<&'a Token>) -> Self {
        self.token = token;
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// Waits as long as the Hub asks, within reason.
    pub(crate) fn patient(mut self) -> Self {
        self.longest_retry_after = PATIENT_RETRY_AFTER;
        self
    }

    /// Takes a redirect for the answer.
    pub(crate) fn without_following(mut self) -> Self {
        self.follow = false;
        self
    }

    pub(crate) fn body(
        mut self,
        content_type: Option<&'static str>,
        make: impl Fn() -> Body + Send + Sync + 'a,
    ) -> Self {
        if let Some(content_type) = content_type {
            self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        self.body = Some(Box::new(make));
        self
    }

    pub(crate) fn json_body(self, value: &serde_json::Value) -> Self {
        let text = value.to_string();
        self.body(Some("application/json"), move || Body::from(text.clone()))
    }

    /// Sends it, again where that may help.
    pub(crate) async fn send(&self, what: &str) -> Result<Answer, HubError> {
        self.repeated(|| self.attempt(what)).await
    }

    /// Sends it and reads the answer, which is JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T, HubError> {
        let bytes = self
            .repeated(|| async {
                let answer = self.attempt(what).await?;
                read(self.http, answer.response, LARGEST_ANSWER, what).await
            })
            .await?;
        serde_json::from_slice(&bytes).map_err(|e| HubError::malformed(what, e.to_string()))
    }

    async fn repeated<T, F: Future<Output = Result<T, HubError>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, HubError> {
        let mut delay = self.http.0.first_delay;
        for _ in 1..ATTEMPTS {
            let error = match attempt().await {
                Err(error) if error.passes() && self.may_repeat(&error) => error,
                other => return other,
            };
            let wait = match error {
                HubError::Refused { retry_after: Some(asked), .. } if asked > self.longest_retry_after => {
                    return Err(error);
                }
                HubError::Refused { retry_after: Some(asked), .. } => asked,
                _ => delay,
            };
            tokio::time::sleep(wait).await;
            delay = (delay * 2).min(LONGEST_DELAY);
        }
        attempt().await
    }

    fn may_repeat(&self, error: &HubError) -> bool {
        match (self.repeat, error) {
            (Repeat::Always, _) => true,
            (Repeat::IfNotBegun, HubError::Refused { status, .. }) => matches!(status, 429 | 503),
            (Repeat::IfNotBegun, HubError::Unreachable { source, .. }) => source.is_connect(),
            (Repeat::IfNotBegun, _) => false,
        }
    }

    async fn attempt(&self, what: &str) -> Result<Answer, HubError> {
        self.http.online()?;
        let mut url = self.url.clone();
        let mut first = None;
        for _ in 0..MOST_REDIRECTS {
            let response = self.hop(what, &url).await?;
            let status = response.status();
            let first = first.get_or_insert_with(|| response.headers().clone());
            if status.is_success() || (status.is_redirection() && !self.follow) {
                return Ok(Answer { response, first: std::mem::take(first) });
            }
            if !status.is_redirection() {
                return Err(self.refusal(what, response).await);
            }
            if self.method != Method::GET && self.method != Method::HEAD {
                return Err(HubError::malformed(what, "it redirects a request that changes something"));
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location =
                location.ok_or_else(|| HubError::malformed(what, "a redirect names no address"))?;
            url = self.http.followed(what, &url, location)?;
        }
        Err(HubError::malformed(what, "too many redirects"))
    }

    async fn hop(&self, what: &str, url: &Url) -> Result<Response, HubError> {
        let mut request =
            self.http.0.client.request(self.method.clone(), url.clone()).headers(self.headers.clone());
        if let Some(token) = self.token.filter(|_| url.origin() == self.http.0.endpoint.origin()) {
            request = request.header(AUTHORIZATION, bearer(token));
        }
        let sending = match &self.body {
            // The body's own reader watches for silence: sending it may rightly take hours.
            Some(make) => return request.body(make()).send().await.map_err(|e| unreachable(what, e)),
            None => request.send(),
        };
        in_time(self.http.silence(), what, sending).await?.map_err(|e| unreachable(what, e))
    }

    async fn refusal(&self, what: &str, response: Response) -> HubError {
        let status = response.status();
        let headers = response.headers().clone();
        let by_storage = response.url().origin() != self.http.0.endpoint.origin();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_string);
        let code = text("x-error-code");
        let message = match text("x-error-message") {
            Some(message) => message,
            None => {
                let body = read(self.http, response, LARGEST_REFUSAL, what).await.unwrap_or_default();
                let value = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
                value.get("error").and_then(|error| error.as_str()).unwrap_or_default().to_string()
            }
        };
        // A server could send back what it was sent.
        let shown = |text: &str| {
            let text = self.token.map_or(text.to_string(), |token| text.replace(token.secret(), "…"));
            text.chars().filter(|c| !c.is_control()).take(300).collect::<String>()
        };
        HubError::Refused {
            what: what.into(),
            status: status.as_u16(),
            code: shown(&code.unwrap_or_default()),
            said: shown(&message),
            retry_after: retry_after(status, &headers),
            by_storage,
        }
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The next piece of a body, none at its end. What is under way ends when offline mode is switched on.
pub(crate) async fn chunk(
    http: &Http,
    response: &mut Response,
    what: &str,
) -> Result<Option<impl AsRef<[u8]> + use<>>, HubError> {
    http.online()?;
    in_time(http.silence(), what, response.chunk()).await?.map_err(|e| unreachable(what, e))
}

pub(crate) fn unreachable(what: &str, source: reqwest::Error) -> HubError {
    // An address may hold a signature that gives access.
    HubError::Unreachable { what: what.into(), source: source.without_url() }
}

async fn in_time<T>(silence: Duration, what: &str, future: impl Future<Output = T>) -> Result<T, HubError> {
    tokio::time::timeout(silence, future).await.map_err(|_| HubError::Silent { what: what.into() })
}

async fn read(http: &Http, mut response: Response, limit: usize, what: &str) -> Result<Vec<u8>, HubError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = chunk(http, &mut response, what).await? {
        bytes.extend_from_slice(chunk.as_ref());
        if bytes.len() > limit {
            return Err(HubError::malformed(what, format!("it is larger than {limit} bytes")));
        }
    }
    Ok(bytes)
}

fn bearer(token: &Token) -> HeaderValue {
    // A token is checked to be one word of visible ASCII, so this always fits; an empty header is refused by the Hub.
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", token.secret())).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// `Retry-After` in seconds, or the end of the window that `RateLimit` tells of as `"resolvers";r=0;t=55`. The Hub sends
/// no dates.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let waits = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = || text(RETRY_AFTER.as_str())?.trim().parse().ok();
    let window =
        || text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok());
    waits.then(|| asked().or_else(window)).flatten().map(Duration::from_secs)
}
