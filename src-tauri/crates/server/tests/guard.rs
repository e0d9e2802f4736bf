//! Who is let in: hosts, origins, tokens, addresses.
#![allow(clippy::unwrap_used, reason = "what cannot be set up ends the test")]

mod common;

use common::{TOKEN, app, get, options, request, send, start, with_token};
use server::{ServeError, ServeOptions, serve};

#[tokio::test]
async fn only_this_machine_under_its_own_names_and_pages_of_the_same_origin_get_in() {
    let (_temp, _api, server) = start(options()).await;
    let address = server.address();
    let port = address.port();
    let good = format!("127.0.0.1:{port}");
    let origin = |origin: &str| format!("Host: {good}\r\nOrigin: {origin}\r\n");
    let site = |site: &str| format!("Host: {good}\r\nSec-Fetch-Site: {site}\r\n");
    for (rule, headers, status) in [
        ("the address", format!("Host: {good}\r\n"), 200),
        ("the name", format!("Host: localhost:{port}\r\n"), 200),
        ("the name in capitals", format!("Host: LocalHost:{port}\r\n"), 200),
        ("any loopback address", format!("Host: 127.8.9.1:{port}\r\n"), 200),
        ("IPv6", format!("Host: [::1]:{port}\r\n"), 200),
        ("a name that an attacker makes resolve to us", format!("Host: evil.example:{port}\r\n"), 403),
        ("one that begins like ours", format!("Host: localhost.evil.example:{port}\r\n"), 403),
        ("one that ends like ours", format!("Host: 127.0.0.1.nip.io:{port}\r\n"), 403),
        ("a user before it", format!("Host: localhost@evil.example:{port}\r\n"), 403),
        ("any address", format!("Host: 0.0.0.0:{port}\r\n"), 403),
        ("another machine", format!("Host: 192.168.1.7:{port}\r\n"), 403),
        ("another port", "Host: 127.0.0.1:1\r\n".to_owned(), 403),
        ("no port", "Host: 127.0.0.1\r\n".to_owned(), 403),
        ("a signed port", format!("Host: 127.0.0.1:+{port}\r\n"), 403),
        ("no host", String::new(), 403),
        ("an empty host", "Host: \r\n".to_owned(), 403),
        ("two hosts", format!("Host: {good}\r\nHost: {good}\r\n"), 403),
        ("the same origin", origin(&format!("http://{good}")), 200),
        ("the same machine by another name", origin(&format!("http://localhost:{port}")), 403),
        ("another port's pages", origin("http://127.0.0.1:1"), 403),
        ("another site", origin("https://evil.example"), 403),
        ("TLS is another origin", origin(&format!("https://{good}")), 403),
        ("sandboxed pages and files", origin("null"), 403),
        ("an empty origin", origin(""), 403),
        ("two origins", origin(&format!("http://{good}\r\nOrigin: http://{good}")), 403),
        ("a page of ours, as browsers say", site("same-origin"), 200),
        ("an address that was typed", site("none"), 200),
        ("a drive-by request", site("cross-site"), 403),
        ("another port's page", site("same-site"), 403),
        ("what no browser says", site("whatever"), 403),
    ] {
        for path in ["/api/health", "/api/docs"] {
            let text = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
            let answer = send(address, text).await;
            assert_eq!(answer.status, status, "{rule}: {answer:?}");
            if status == 403 {
                let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                assert!(detail.starts_with("Refused: "), "a refusal says why: {detail}");
            }
            assert_eq!(answer.header("access-control-allow-origin"), None, "no other origin gets leave");
        }
    }
}

#[tokio::test]
async fn preflights_and_foreign_request_lines_are_refused() {
    let (_temp, _api, server) = start(options()).await;
    let address = server.address();
    let preflight = "Access-Control-Request-Method: POST\r\n";
    for (line, headers, status) in [
        ("OPTIONS /api/finetune/start_training", preflight, 403),
        ("OPTIONS /nowhere", preflight, 403),
        ("OPTIONS /api/health", "", 405),
        ("OPTIONS *", "", 404),
        ("GET http://evil.example/api/health", "", 403),
    ] {
        let answer = send(address, request(address, line, headers, "")).await;
        assert_eq!(answer.status, status, "{line} {headers}: {answer:?}");
    }
    let whole = format!("GET http://{address}/api/health");
    assert_eq!(send(address, request(address, &whole, "", "")).await.status, 200, "as a proxy asks");
}

#[tokio::test]
async fn with_a_token_the_api_is_closed_and_the_pages_are_open() {
    let (_temp, _api, server) = start(with_token("127.0.0.1")).await;
    let address = server.address();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for (rule, headers, status) in [
        ("the token", bearer(TOKEN), 200),
        ("the scheme's case is free", format!("authorization: bearer {TOKEN}\r\n"), 200),
        ("none", String::new(), 401),
        ("an empty one", bearer(""), 401),
        ("another", bearer("correct-horse-batterx"), 401),
        ("its begin", bearer(&TOKEN[..TOKEN.len() - 1]), 401),
        ("more than it", bearer(&format!("{TOKEN}x")), 401),
        ("in capitals", bearer(&TOKEN.to_uppercase()), 401),
        ("another scheme", format!("Authorization: Basic {TOKEN}\r\n"), 401),
        ("two", bearer(TOKEN) + &bearer(TOKEN), 401),
        ("a cookie, which any page's request would carry", format!("Cookie: token={TOKEN}\r\n"), 401),
    ] {
        for path in ["/api/health", "/api/health/", "/api/openapi.json", "/api/models"] {
            let answer = send(address, request(address, &format!("GET {path}"), &headers, "")).await;
            assert_eq!(answer.status, status, "{rule}: {path}: {answer:?}");
            let asks = answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer"));
            assert_eq!(asks, status == 401, "a 401 says what is wanted");
        }
    }
    for path in [&format!("/api/health?token={TOKEN}"), "/api/nowhere", "/nowhere"] {
        assert_eq!(get(address, path).await.status, 401, "{path}: an address is in logs and histories");
    }
    for path in ["/api/docs", "/api/docs/docs.js", "/api/docs/docs.css"] {
        assert_eq!(get(address, path).await.status, 200, "{path}: the page has the field for the token");
    }
}

#[tokio::test]
async fn other_machines_need_a_token_and_one_of_our_addresses() {
    let (_temp, api) = app();
    for host in ["0.0.0.0", "::", "[::]"] {
        let options = ServeOptions { host: host.into(), ..options() };
        match serve(api.clone(), options).await {
            Err(ServeError::NeedsToken { .. }) => {}
            // A machine may have no IPv6.
            Err(ServeError::Bind { .. } | ServeError::UnknownHost { .. }) if host.contains(':') => {}
            other => panic!("{host}: open to the network without a token: {other:?}"),
        }
    }
    let server = serve(api, with_token("0.0.0.0")).await.unwrap();
    let port = server.address().port();
    let here = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        (format!("0.0.0.0:{port}"), 200),
        (format!("192.0.2.1:{port}"), 403),
        (format!("evil.example:{port}"), 403),
    ] {
        let text = format!(
            "GET /api/health HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(send(here, text).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_told_with_the_way_out() {
    let (_temp, api, server) = start(options()).await;
    let port = server.address().port();
    let error = serve(api, ServeOptions { port, ..options() }).await.unwrap_err();
    assert!(matches!(error, ServeError::InUse { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&port.to_string()) && text.contains("--port"), "{text}");
}
