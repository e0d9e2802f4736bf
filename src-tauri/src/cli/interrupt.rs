//! Ctrl-C and termination signals as something to wait for.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// From this press on, waiting for an orderly end is over.
const PATIENCE: usize = 3;

/// Closer together, two signals are one: `timeout` and some shells signal the process and then its whole group.
const SAME: Duration = Duration::from_millis(300);

/// The presses of Ctrl-C.
pub struct Interrupts(UnboundedReceiver<()>);

impl Interrupts {
    /// Takes Ctrl-C over from the system. Once a process.
    pub fn listen() -> anyhow::Result<Self> {
        let (sender, receiver) = unbounded_channel();
        let (mut presses, mut last) = (0, None::<Instant>);
        ctrlc::set_handler(move || {
            if last.replace(Instant::now()).is_some_and(|last| last.elapsed() < SAME) {
                return;
            }
            presses += 1;
            if presses >= PATIENCE || sender.send(()).is_err() {
                std::process::exit(i32::from(super::INTERRUPTED));
            }
        })?;
        Ok(Self(receiver))
    }

    /// The next press. Safe to cancel.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The handler and its sender live as long as the process.
            std::future::pending::<()>().await;
        }
    }
}
