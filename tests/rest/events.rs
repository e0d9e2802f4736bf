//! Server-sent events, one at a time as they arrive.

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

/// A stream of events. Dropping it closes the connection.
pub struct Events {
    answer: Response,
    bytes: Vec<u8>,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Where a stream that broke off can go on.
    pub id: Option<u64>,
    /// `error` for the one that ends a stream early.
    pub name: Option<String>,
    pub data: Value,
}

impl Events {
    /// Asks for a stream.
    pub async fn open(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "a stream begins");
        assert!(is_stream(&answer), "a stream says that it is one");
        Self { answer, bytes: Vec::new() }
    }

    /// The events of an answer that has begun.
    pub fn of(answer: Response) -> Self {
        Self { answer, bytes: Vec::new() }
    }

    /// The next event; `None` when the stream is over.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.bytes.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
                if let Some(event) = parse(std::str::from_utf8(&block).unwrap()) {
                    return Some(event);
                }
            }
            self.bytes.extend_from_slice(&self.answer.chunk().await.unwrap()?);
        }
    }

    /// All that is still to come.
    pub async fn rest(self) -> Vec<Event> {
        self.at_most(usize::MAX).await
    }

    /// So many of those that are still to come, or all.
    pub async fn at_most(mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count
            && let Some(event) = self.next().await
        {
            events.push(event);
        }
        events
    }
}

/// Whether an answer is a stream of events.
pub fn is_stream(answer: &Response) -> bool {
    answer.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// None for a comment, which only keeps the connection open.
fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some(Event {
        data: serde_json::from_str(field("data")?).unwrap(),
        id: field("id").map(|id| id.parse().unwrap()),
        name: field("event").map(ToOwned::to_owned),
    })
}
