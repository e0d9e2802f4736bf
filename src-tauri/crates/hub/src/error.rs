//! What can go wrong between this machine and the Hub. No text here ever holds an access token or a signed address.

use std::{io, path::PathBuf, time::Duration};

use types::ApiError;

/// A failed request to the Hub, or a failed file of its cache.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A repository that cannot be reached with the rights at hand.
    #[error("{repo} is not accessible: {why}")]
    Inaccessible {
        /// The repository's name.
        repo: String,
        /// The reason, as far as the Hub tells it.
        why: Inaccessible,
    },
    /// An operation that needs an access token, without one.
    #[error(
        "you are not signed in to the Hub: add an access token of yours (https://huggingface.co/settings/tokens)"
    )]
    NotSignedIn,
    /// A token that the Hub does not know.
    #[error("the Hub does not accept the access token: it may be mistyped, expired or revoked")]
    TokenRefused,
    /// A token without the right that the operation needs.
    #[error("the access token does not allow to {what}: {said}")]
    NotAllowed {
        /// What was asked for.
        what: String,
        /// The Hub's own words.
        said: String,
    },
    /// Offline mode is on.
    #[error("offline mode is on: the Hub is not asked")]
    Offline,
    /// A push to a name that is taken.
    #[error(
        "the repository {repo} exists already: nothing was changed there; choose another name, or push into it if it is yours to change"
    )]
    RepositoryExists {
        /// The repository's name.
        repo: String,
    },
    /// The repository is there, but the files are not in it.
    #[error(
        "the model is not in the repository {repo} yet: {source}. Push again: what has arrived is not sent a second time"
    )]
    Unfinished {
        /// The repository's name.
        repo: String,
        /// What stopped the push.
        source: Box<HubError>,
    },
    /// The Hub has something else than what was sent.
    #[error(
        "the repository {repo} does not have {file} as it is here: push again, into the existing repository"
    )]
    NotAsSent {
        /// The repository's name.
        repo: String,
        /// The first file that is not there or another one.
        file: String,
    },
    /// Not a name a repository can have.
    #[error("{name:?} is no name of a repository: {why}")]
    BadRepoName {
        /// The name as given.
        name: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// Not a name a revision can have.
    #[error("{0:?} is no branch, tag or commit")]
    BadRevision(String),
    /// Not an address of a Hub.
    #[error("{address:?} is no address of a Hub: {why}")]
    BadEndpoint {
        /// The address as given.
        address: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// Not a token.
    #[error("this is no access token: one is a single word of letters, digits and _")]
    BadToken,
    /// A repository whose weights cannot be loaded safely.
    #[error("{repo} has no weights as .safetensors, {}", no_weights(.found))]
    NoSafetensors {
        /// The repository's name.
        repo: String,
        /// A weights file of another format that is there.
        found: Option<String>,
    },
    /// A file name that would leave the repository's folder.
    #[error("{repo} names a file {path:?}, which would be written outside of the model's folder: refused")]
    UnsafePath {
        /// The repository's name.
        repo: String,
        /// The name as the Hub gave it.
        path: String,
    },
    /// Bytes that are not those the Hub announced.
    #[error("{file} arrived damaged: its {what} is {got} where {want} was announced; download it again")]
    Damaged {
        /// The file, as the repository names it.
        file: String,
        /// `size` or the kind of hash.
        what: &'static str,
        /// What the Hub announced.
        want: String,
        /// What arrived.
        got: String,
    },
    /// No connection, or a broken one.
    #[error("cannot {what}: {}", connection(.source))]
    Unreachable {
        /// What was tried.
        what: String,
        /// The failure, without the address it happened at.
        source: reqwest::Error,
    },
    /// A connection on which nothing comes.
    #[error("cannot {what}: the Hub does not answer")]
    Silent {
        /// What was tried.
        what: String,
    },
    /// An answer that says no.
    #[error("cannot {what}: the Hub answered {status}{}", in_brackets(.said))]
    Refused {
        /// What was tried.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The Hub's own name for the reason, empty where it gives none.
        code: String,
        /// The Hub's own words, if any.
        said: String,
        /// How long the Hub asks to wait.
        retry_after: Option<Duration>,
        /// Whether it came from the storage that the Hub led to, not from the Hub.
        by_storage: bool,
    },
    /// An answer that is not what the protocol says.
    #[error("cannot {what}: the Hub's answer makes no sense ({why})")]
    Malformed {
        /// What was tried.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// A file or folder of this machine.
    #[error("cannot use {}: {source}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A token file that others can read.
    #[error("{} holds an access token and can be read by others: run `chmod 600` on it or delete it", .0.display())]
    ExposedTokenFile(PathBuf),
    /// The system's keychain failed after it had worked.
    #[error("the system's keychain failed: {0}")]
    Keychain(String),
}

/// Why a repository cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Inaccessible {
    /// The Hub does not tell a missing repository from one that is hidden.
    #[error("it does not exist, or it is private and not shared with you")]
    MissingOrPrivate,
    /// Its terms have to be accepted first.
    #[error("it is gated: accept its terms on the Hub's page with your account, and sign in here")]
    Gated,
    /// The token is not valid, so nothing can be said about the repository.
    #[error("the Hub does not accept the access token")]
    TokenRefused,
    /// The token is valid but may not read it.
    #[error("your access token may not read it")]
    NotAllowed,
    /// The repository is there, the revision is not.
    #[error("it has no such branch, tag or commit")]
    NoSuchRevision,
    /// The Hub took it down.
    #[error("the Hub has disabled it")]
    Disabled,
}

impl HubError {
    /// Whether the same request may succeed a little later.
    pub(crate) fn passes(&self) -> bool {
        match self {
            HubError::Unreachable { .. } | HubError::Silent { .. } => true,
            HubError::Refused { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| HubError::File { path, source }
    }

    pub(crate) fn malformed(what: &str, why: impl Into<String>) -> Self {
        HubError::Malformed { what: what.into(), why: why.into() }
    }
}

impl From<HubError> for ApiError {
    fn from(error: HubError) -> Self {
        match &error {
            HubError::Unfinished { source, .. } => {
                let status_code = match source.as_ref() {
                    HubError::NotSignedIn | HubError::TokenRefused | HubError::NotAllowed { .. } => 403,
                    _ => 500,
                };
                if status_code == 403 {
                    ApiError::forbidden(error.to_string())
                } else {
                    ApiError::internal(error)
                }
            }
            HubError::Inaccessible { .. }
            | HubError::NotSignedIn
            | HubError::TokenRefused
            | HubError::NotAllowed { .. }
            | HubError::Offline => ApiError::forbidden(error.to_string()),
            HubError::RepositoryExists { .. }
            | HubError::BadRepoName { .. }
            | HubError::BadRevision(_)
            | HubError::BadEndpoint { .. }
            | HubError::BadToken
            | HubError::NoSafetensors { .. } => ApiError::bad_request(error.to_string()),
            HubError::UnsafePath { .. }
            | HubError::Damaged { .. }
            | HubError::NotAsSent { .. }
            | HubError::Unreachable { .. }
            | HubError::Silent { .. }
            | HubError::Refused { .. }
            | HubError::Malformed { .. }
            | HubError::File { .. }
            | HubError::ExposedTokenFile(_)
            | HubError::Keychain(_) => ApiError::internal(error),
        }
    }
}

fn no_weights(found: &Option<String>) -> String {
    match found {
        Some(file) => format!(
            "only {file}: such a file can run code while it is read, or is of a format for other programs"
        ),
        None => "nor in any other format".into(),
    }
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// The innermost cause is the one that says something: "connection refused", "failed to lookup address".
fn connection(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let kind = match error {
        e if e.is_timeout() => "the Hub does not answer in time",
        e if e.is_connect() => "the Hub cannot be reached",
        _ => "the connection to the Hub broke",
    };
    format!("{kind} ({cause})")
}
