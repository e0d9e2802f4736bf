//! What has changed, told to everybody who listens, whichever process did it: what this one does is announced, what
//! others do shows in the data folder, which is looked at while somebody listens.
//!
//! Only what changed is told, not how it is now: who wants to know asks for it.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;
use store::Glance;
use tokio::{
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, interval},
};

use crate::{Api, Item, Items, operation};

/// How often the data folder is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Changes that wait for a listener. One that is further behind is told that everything has changed.
const WAITING: usize = 64;

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Runs: one is new, is gone, or has got on.
    Runs,
    /// Finished models.
    Models,
    /// The datasets that were used.
    Datasets,
    /// Conversations.
    Conversations,
    /// The app's settings.
    Settings,
    /// The access token of the Hub.
    Hub,
    /// The model in memory and whether it answers.
    Playground,
}

/// Something has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// What it is about.
    pub topic: Topic,
    /// Which one of them; null where it can be any.
    pub id: Option<String>,
}

/// Everybody who listens in this process.
#[derive(Debug, Clone)]
pub(crate) struct Changes(broadcast::Sender<Change>);

impl Topic {
    const ALL: [Self; 7] = [
        Self::Runs,
        Self::Models,
        Self::Datasets,
        Self::Conversations,
        Self::Settings,
        Self::Hub,
        Self::Playground,
    ];
}

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING))
    }
}

impl Changes {
    /// Tells everybody who listens.
    pub fn announce<'a>(&self, topic: Topic, id: impl Into<Option<&'a str>>) {
        // Where nobody listens, nobody needs to know.
        self.0.send(Change { topic, id: id.into().map(str::to_owned) }).ok();
    }
}

impl Api {
    /// Tells everybody who listens that something has changed.
    pub fn announce<'a>(&self, topic: Topic, id: impl Into<Option<&'a str>>) {
        self.changes.announce(topic, id);
    }

    /// Every topic once, then each change, until the receiver is dropped.
    pub(crate) fn listen(self: &Arc<Self>) -> Items {
        let (sender, items) = mpsc::channel(WAITING);
        let changes = self.changes.0.subscribe();
        let api = Arc::clone(self);
        tokio::spawn(async move { api.tell(changes, sender).await });
        items
    }

    async fn tell(
        self: Arc<Self>,
        mut changes: broadcast::Receiver<Change>,
        sender: mpsc::Sender<Result<Item, types::ApiError>>,
    ) {
        // Taken before the first word, so that nothing falls between.
        let mut seen = self.look().await;
        let mut news = everything();
        let mut ticks = interval(LOOK_AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for change in news {
                let item = operation::answer(&change).map(|data| Item { id: None, data });
                if sender.send(item).await.is_err() {
                    return;
                }
            }
            news = tokio::select! {
                change = changes.recv() => match change {
                    Ok(change) => vec![change],
                    Err(broadcast::error::RecvError::Lagged(_)) => everything(),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = ticks.tick() => {
                    let now = self.look().await;
                    let found = self.done_elsewhere(seen.as_ref(), now.as_ref());
                    seen = now.or(seen);
                    found
                }
                () = sender.closed() => return,
            };
        }
    }

    /// `None` where the folder cannot be read, which whoever asks for a list is told.
    async fn look(&self) -> Option<Glance> {
        let store = self.store_handle();
        crate::blocking(move || store.glance()).await.ok()?.ok()
    }

    fn done_elsewhere(&self, before: Option<&Glance>, now: Option<&Glance>) -> Vec<Change> {
        let (Some(before), Some(now)) = (before, now) else { return Vec::new() };
        let of = |topic, id: &str| Change { topic, id: Some(id.to_owned()) };
        // A run that is followed here announces itself.
        let runs = now.changed_runs(before).into_iter().filter(|id| !self.follows(id));
        let mut found: Vec<Change> = runs.map(|id| of(Topic::Runs, id)).collect();
        if now.queue_changed(before) {
            found.push(Change { topic: Topic::Runs, id: None });
        }
        found.extend(now.changed_models(before).into_iter().map(|id| of(Topic::Models, id)));
        if now.database_changed(before) {
            let in_database = [Topic::Datasets, Topic::Conversations, Topic::Settings];
            found.extend(in_database.map(|topic| Change { topic, id: None }));
        }
        found
    }
}

fn everything() -> Vec<Change> {
    Topic::ALL.map(|topic| Change { topic, id: None }).into()
}
