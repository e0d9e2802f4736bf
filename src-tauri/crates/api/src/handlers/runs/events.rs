//! `runs_events`.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc::{self, Sender};
pub use types::EventLine as Output;
use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::{Api, Item, Items, operation};

/// A run that another process started is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

fields! {
    /// A run by its id, and where to begin.
    pub struct Input {
        job_id: String, Kind::Text, Fallback::Required, "The run's id.";
        after: Option<u64>, Kind::Int { min: 0, max: i64::MAX }, Fallback::Found("the beginning"), "Only events after the one with this number (seq).";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// Follows the run's event log, so that it makes no difference which process started the run, and a stream that broke
/// off goes on where it was.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Items, ApiError> {
    // 404 at once for an unknown run.
    api.store().run(&input.job_id)?;
    let (sender, items) = mpsc::channel(64);
    let api = Arc::clone(api);
    tokio::spawn(async move {
        if let Err(error) = follow(&api, input, &sender).await {
            // A caller that has gone needs no error.
            sender.send(Err(error)).await.ok();
        }
    });
    Ok(items)
}

async fn follow(
    api: &Arc<Api>,
    input: Input,
    sender: &Sender<Result<Item, ApiError>>,
) -> Result<(), ApiError> {
    let mut tail = api.store().event_tail(&input.job_id, input.after)?;
    loop {
        // Asked for before the log is read, so that nothing told in between is slept over.
        let news = api.news();
        // Asked before the log is read: an engine that has ended by now has written its last line.
        let running = api.store().run(&input.job_id)?.status == store::RunStatus::Running;
        let (batch, reader) = crate::blocking(move || (tail.next_batch(), tail)).await?;
        tail = reader;
        let batch = batch?;
        let quiet = batch.is_empty();
        for line in batch {
            let item = Item { id: Some(line.seq), data: operation::answer(&line)? };
            if sender.send(Ok(item)).await.is_err() {
                return Ok(());
            }
        }
        if quiet && !running {
            return Ok(());
        }
        if quiet {
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = sender.closed() => return Ok(()),
            }
        }
    }
}
