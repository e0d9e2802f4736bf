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

/// Whether there is a keychain that answers. Found out once, by reading.
pub(crate) async fn available() -> bool {
    static AVAILABLE: OnceCell<bool> = OnceCell::const_new();
    *AVAILABLE.get_or_init(|| async { read().await.is_ok() }).await
}

pub(crate) async fn read() -> Result<Option<Token>, HubError> {
    let password = call(|entry| entry.get_password()).await?;
    Ok(password.and_then(|text| Token::parse(&text).ok()))
}

pub(crate) async fn write(token: Token) -> Result<(), HubError> {
    call(move |entry| entry.set_password(token.secret())).await.map(|_| ())
}

pub(crate) async fn delete() -> Result<(), HubError> {
    call(|entry| entry.delete_credential()).await.map(|_| ())
}

/// None where the keychain has no such entry.
async fn call<T: Send + 'static>(
    act: impl FnOnce(&Entry) -> keyring::Result<T> + Send + 'static,
) -> Result<Option<T>, HubError> {
    let work = tokio::task::spawn_blocking(move || act(&Entry::new(SERVICE, USER)?));
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(Ok(value))) => Ok(Some(value)),
        Ok(Ok(Err(Error::NoEntry))) => Ok(None),
        Ok(Ok(Err(error))) => Err(HubError::Keychain(reason(&error).into())),
        Ok(Err(_)) => Err(HubError::Keychain("it stopped in the middle".into())),
        Err(_) => Err(HubError::Keychain("it does not answer".into())),
    }
}

/// Not the error's own text: some of its variants hold the secret.
fn reason(error: &Error) -> &'static str {
    match error {
        Error::NoStorageAccess(_) => "it is locked or does not allow access",
        Error::NoDefaultStore => "this system has none",
        Error::TooLong(..) => "the token is too long for it",
        Error::BadEncoding(_) => "what it holds is not text",
        _ => "it reports a problem of the system",
    }
}
