//! The system's keychain: Keychain Services on macOS, the Credential Manager on Windows, the Secret Service elsewhere.
//! Its calls block and may wait for a person, so they run beside the async runtime.

use std::time::Duration;

use keyring::{Entry, Error};
use tokio::sync::OnceCell;

use crate::{error::HubError, token::Token};

const SERVICE: &str = "ModelForge";
const USER: &str = "hub-access-token";
/// A person may have to unlock it first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether there is a keychain that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    Works,
    /// It is there, and nobody unlocked it.
    Locked,
    Missing,
}

/// Found out once, by reading: a person is asked to unlock it once, not for each request.
pub(crate) async fn probe() -> Probe {
    static FOUND: OnceCell<Probe> = OnceCell::const_new();
    let find = || async {
        match call(|entry| entry.get_password()).await {
            Ok(_) => Probe::Works,
            Err(Failure::Keychain(Error::NoStorageAccess(_))) | Err(Failure::NoAnswer) => Probe::Locked,
            Err(_) => Probe::Missing,
        }
    };
    *FOUND.get_or_init(find).await
}

pub(crate) async fn available() -> bool {
    probe().await == Probe::Works
}

pub(crate) async fn read() -> Result<Option<Token>, HubError> {
    let password = call(|entry| entry.get_password()).await.map_err(told)?;
    Ok(password.and_then(|text| Token::parse(&text).ok()))
}

pub(crate) async fn write(token: Token) -> Result<(), HubError> {
    call(move |entry| entry.set_password(token.secret())).await.map(|_| ()).map_err(told)
}

pub(crate) async fn delete() -> Result<(), HubError> {
    call(|entry| entry.delete_credential()).await.map(|_| ()).map_err(told)
}

enum Failure {
    Keychain(Error),
    Stopped,
    NoAnswer,
}

/// None where the keychain has no such entry.
async fn call<T: Send + 'static>(
    act: impl FnOnce(&Entry) -> keyring::Result<T> + Send + 'static,
) -> Result<Option<T>, Failure> {
    let work = tokio::task::spawn_blocking(move || act(&Entry::new(SERVICE, USER)?));
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(Ok(value))) => Ok(Some(value)),
        Ok(Ok(Err(Error::NoEntry))) => Ok(None),
        Ok(Ok(Err(error))) => Err(Failure::Keychain(error)),
        Ok(Err(_)) => Err(Failure::Stopped),
        Err(_) => Err(Failure::NoAnswer),
    }
}

/// Not the error's own text: some of its variants hold the secret.
fn told(failure: Failure) -> HubError {
    let reason = match failure {
        Failure::Keychain(Error::NoStorageAccess(_)) => "it is locked or does not allow access",
        Failure::Keychain(Error::NoDefaultStore) => "this system has none",
        Failure::Keychain(Error::TooLong(..)) => "the token is too long for it",
        Failure::Keychain(Error::BadEncoding(_)) => "what it holds is not text",
        Failure::Keychain(_) => "it reports a problem of the system",
        Failure::Stopped => "it stopped in the middle",
        Failure::NoAnswer => "it does not answer",
    };
    HubError::Keychain(reason.into())
}
