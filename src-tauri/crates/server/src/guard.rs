//! Who may talk to the server at all. Web pages of other origins must not use it, neither straight (drive-by requests)
//! nor under a name that they make resolve to this machine (DNS rebinding).

use std::net::IpAddr;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN},
    request::Parts,
};
use types::ApiError;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names that the server goes by.
#[derive(Debug)]
pub struct Guard {
    told: Name,
    port: u16,
}

/// What stands in a `Host` header before the port.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    Ip(IpAddr),
    /// In small letters.
    Dns(String),
}

impl Guard {
    /// The guard of a server that was told to listen on `host`.
    pub fn new(host: &str, port: u16) -> Self {
        Self { told: Name::of(host), port }
    }

    /// Checks a request that came in at the address `local`.
    ///
    /// # Errors
    /// 403 with the reason.
    pub fn check(&self, request: &Parts, local: IpAddr) -> Result<(), ApiError> {
        let host = only(&request.headers, &HOST)?.ok_or_else(|| refused("the Host header is missing"))?;
        self.check_host(host, &request.uri, local)?;
        if let Some(origin) = only(&request.headers, &ORIGIN)?
            && !origin.strip_prefix("http://").is_some_and(|site| site.eq_ignore_ascii_case(host))
        {
            return Err(refused("pages of another origin may not use this server"));
        }
        if request.method == Method::OPTIONS && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return Err(refused("this server gives no other origin leave to use it"));
        }
        match only(&request.headers, &FETCH_SITE)? {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) => Err(refused("pages of another site may not use this server")),
        }
    }

    fn check_host(&self, host: &str, uri: &Uri, local: IpAddr) -> Result<(), ApiError> {
        let known = split(host).is_some_and(|(name, port)| {
            let ours = match &name {
                Name::Ip(ip) => ip.is_loopback() || *ip == local.to_canonical(),
                Name::Dns(name) => name == "localhost",
            };
            port == self.port && (ours || name == self.told)
        });
        // A request line may name a host too, and then that one counts for whoever reads it.
        let agrees = uri.authority().is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host));
        if known && agrees {
            return Ok(());
        }
        Err(refused(&format!(
            "the Host header must be an address of this server with its port {}, such as localhost:{0}",
            self.port
        )))
    }
}

impl Name {
    fn of(host: &str) -> Self {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => Self::Ip(ip.to_canonical()),
            Err(_) => Self::Dns(host.to_ascii_lowercase()),
        }
    }
}

/// The host and the port of a `Host` header.
fn split(host: &str) -> Option<(Name, u16)> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, port),
        _ => (host, "80"),
    };
    // `parse` takes a plus sign; and an IPv6 address without brackets has no clear end.
    let clear =
        port.bytes().all(|byte| byte.is_ascii_digit()) && (name.starts_with('[') || !name.contains(':'));
    clear.then(|| port.parse().ok().map(|port| (Name::of(name), port))).flatten()
}

/// The value of a header that may be there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(HeaderValue::to_str);
    match (value, values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => Err(refused(&format!("the header {name} is there twice or is no text"))),
    }
}

fn refused(reason: &str) -> ApiError {
    ApiError::forbidden(format!("Refused: {reason}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_header_is_taken_apart_in_one_way_only() {
        for (host, name, port) in [
            ("localhost:8000", "localhost", 8000),
            ("LOCALHOST", "localhost", 80),
            ("127.0.0.1:1", "127.0.0.1", 1),
            ("[::1]:9", "::1", 9),
            ("[::1]", "::1", 80),
            ("[::ffff:127.0.0.1]:9", "127.0.0.1", 9),
        ] {
            assert_eq!(split(host), Some((Name::of(name), port)), "{host}");
        }
        for bad in ["::1", "::1:80", "localhost:+80", "localhost:99999", "localhost:", "a:b:80", ""] {
            let taken = split(bad).filter(|(name, _)| *name != Name::Dns(String::new()));
            assert_eq!(taken, None, "{bad:?} could be read in two ways");
        }
    }
}
