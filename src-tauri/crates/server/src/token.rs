//! The token that clients of a protected server show. It is in no log, message or file.

use std::fmt;

use axum::http::{HeaderMap, header::AUTHORIZATION};
use subtle::ConstantTimeEq;

use crate::ServeError;

/// The environment variable that gives the token: other than a command line, it is not shown to every user of the machine.
pub const TOKEN_VARIABLE: &str = "MODELFORGE_TOKEN";

/// The fewest characters of a token.
pub(crate) const MIN_LENGTH: usize = 16;

/// What every request to the API must carry, as `Authorization: Bearer <token>`.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes a token.
    ///
    /// # Errors
    /// [`ServeError::WeakToken`] for a short one and for one that no header can carry.
    pub fn new(text: impl Into<String>) -> Result<Self, ServeError> {
        let text = text.into();
        let fits = text.len() >= MIN_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text)) } else { Err(ServeError::WeakToken) }
    }

    /// Whether a request shows this token. How long that takes says nothing about what was right.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        let Some((scheme, token)) = value.as_bytes().split_at_checked(BEARER.len()) else { return false };
        scheme.eq_ignore_ascii_case(BEARER) && token.ct_eq(self.0.as_bytes()).into()
    }
}

const BEARER: &[u8] = b"Bearer ";

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_fits_a_header_and_is_not_shown() {
        for bad in
            ["", "fifteen-letters", "with a space in it", "sixteen\ncharacters", "ünïcödé-ünïcödé-ünïcödé"]
        {
            assert!(Token::new(bad).is_err(), "{bad:?}");
        }
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(!format!("{token:?}").contains("0123"), "a token is in no log");
    }
}
