//! Why a server does not start.

use std::{io, net::SocketAddr};

use types::ApiError;

use crate::token::MIN_LENGTH;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Other machines could connect, and anyone on them could use the app.
    #[error(
        "--host {host} lets other machines connect, which needs a token: give --token or set MODELFORGE_TOKEN, with at \
         least {MIN_LENGTH} characters"
    )]
    NeedsToken {
        /// As it was given.
        host: String,
    },
    /// A token that is easy to guess or that no header can carry.
    #[error(
        "the token must have at least {MIN_LENGTH} characters, all of them letters, digits or signs of ASCII, without \
         spaces"
    )]
    WeakToken,
    /// A name that no address is known for.
    #[error("--host {host}: {source}; give an address of this machine, such as 127.0.0.1")]
    UnknownHost {
        /// As it was given.
        host: String,
        /// What the system says.
        source: io::Error,
    },
    /// Another program listens there.
    #[error(
        "port {port} is in use; stop the program that uses it, or choose another port with --port (0 picks a free one)"
    )]
    InUse {
        /// The port.
        port: u16,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; check --host and --port")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl From<ServeError> for ApiError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::UnknownHost { .. } | ServeError::InUse { .. } | ServeError::Bind { .. } => {
                Self::internal(error)
            }
            ServeError::NeedsToken { .. } | ServeError::WeakToken => Self::bad_request(error.to_string()),
        }
    }
}
