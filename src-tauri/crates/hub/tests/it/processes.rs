//! Downloads in a process of their own: killed at any moment, measured, behind a proxy.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use hub_server::{HubServer, Trouble, Visibility};

use crate::{hub_at, server};

const ENDPOINT: &str = "MODELFORGE_TEST_ENDPOINT";
const CACHE: &str = "MODELFORGE_TEST_CACHE";

fn child(endpoint: &str, cache: &Path, variables: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::a_download_of_its_own", "--ignored", "--nocapture", "--test-threads=1"])
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env(ENDPOINT, endpoint)
        .env(CACHE, cache)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a child tells, line by line: `done <bytes>`, at the end `peak <kB>`, or `error <text>`.
fn told(child: &mut Child) -> impl Iterator<Item = (String, String)> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| {
        let (word, rest) = line.split_once(' ')?;
        ["done", "peak", "error"].contains(&word).then(|| (word.to_owned(), rest.to_owned()))
    })
}

#[tokio::test]
#[ignore = "run by the other tests in a process of its own"]
async fn a_download_of_its_own() {
    let (Some(endpoint), Some(cache)) = (std::env::var_os(ENDPOINT), std::env::var_os(CACHE)) else { return };
    // The test's own name stands on the line so far.
    println!();
    let mut tell = |progress: hub::Progress| println!("done {}", progress.bytes_done);
    let hub = hub_at(endpoint.to_str().unwrap(), Some("hf_TopSecretTopSecret"), false);
    match hub.download("acme/model", "main", Path::new(&cache), &mut tell).await {
        Ok(_) => {
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            println!("peak {}", peak.unwrap_or("0 kB").trim().trim_end_matches(" kB"));
        }
        Err(error) => println!("error {error}"),
    }
}

fn server_with(size: u64) -> HubServer {
    let server = server();
    server.add_user(hub_server::User {
        name: "carol".into(),
        token: "hf_TopSecretTopSecret".into(),
        role: hub_server::Role::Read,
        organizations: vec![],
    });
    server.add_repo("acme/model", Visibility::Public, &[("config.json", b"{}")]);
    server.add_sparse_file("acme/model", "model.safetensors", b"head", size);
    server
}

#[test]
fn a_download_that_is_killed_goes_on_where_it_was() {
    let size = 40 << 20;
    let server = server_with(size);
    server.trouble("acme/model", &[Trouble::Slow(Duration::from_millis(1))]);
    let cache = tempfile::tempdir().unwrap();
    let mut had = 0;
    for round in 1..=12 {
        let mut process = child(server.url(), cache.path(), &[]);
        // Another moment each time: by how much it brings, and not where a piece ends.
        let until = had + 1_700_000 + round * 111_111;
        let mut first = None;
        for (word, rest) in told(&mut process) {
            assert_eq!(word, "done", "round {round}: {rest}");
            let done: u64 = rest.parse().unwrap();
            // The first lines count what was there.
            if first.is_none() && done >= had {
                first = Some(done);
            }
            if done > until {
                had = done;
                break;
            }
        }
        assert!(first.is_some(), "round {round}: what was told as done is still there");
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert!(had > 20 << 20 && had < size, "it was killed on the way: {had}");
    server.trouble("acme/model", &[]);
    server.forget();
    let mut process = child(server.url(), cache.path(), &[]);
    let last = told(&mut process).last().unwrap();
    process.wait().unwrap();
    assert_eq!(last.0, "peak", "it ends right: {last:?}");
    let asked: u64 = crate::ranges(&server, "/objects/")
        .iter()
        .flatten()
        .map(|range| {
            let (start, end) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            end.parse::<u64>().unwrap() + 1 - start.parse::<u64>().unwrap()
        })
        .sum();
    let config = 2;
    assert!(
        asked <= size + config - had,
        "nothing that was told as done is asked for again: {asked} of {size}, {had} there"
    );
    let weights = cache.path().join("models--acme--model/blobs");
    let sizes: Vec<u64> = weights.read_dir().unwrap().map(|f| f.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.iter().sum::<u64>(), size + config, "two files, nothing beside them");
}

fn check_memory(size: u64) {
    let server = server_with(size);
    let cache = tempfile::tempdir().unwrap();
    let mut process = child(server.url(), cache.path(), &[]);
    let last = told(&mut process).last().unwrap();
    process.wait().unwrap();
    assert_eq!(last.0, "peak", "it ends right: {last:?}");
    let peak: u64 = last.1.parse().unwrap();
    println!("{size} bytes were downloaded in {peak} kB of memory");
    if cfg!(target_os = "linux") {
        assert!((1..96 << 10).contains(&peak), "a download of {size} bytes needs {peak} kB");
    }
}

#[test]
fn memory_does_not_grow_with_a_file() {
    check_memory(256 << 20);
}

#[test]
#[ignore = "writes 3 GB"]
fn memory_does_not_grow_with_a_file_of_3_gb() {
    check_memory(3 << 30);
}

/// A proxy that takes whole addresses, as proxies for http do, and leads all of them to one place.
fn proxy(to: String) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://me:ProxyPassword@{}", listener.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (to, tell) = (to.clone(), tell.clone());
            std::thread::spawn(move || pass_on(client, &to, &tell));
        }
    });
    (address, told)
}

fn pass_on(client: TcpStream, to: &str, tell: &std::sync::mpsc::Sender<String>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    tell.send(head.clone()).ok()?;
    let (host, port) = to.split_once(':')?;
    let absolute = head.split(' ').nth(1)?;
    // Storage addresses are named by themselves, the Hub by a name that exists nowhere.
    let rest = absolute.strip_prefix("http://")?;
    let (authority, path) = rest.split_once('/')?;
    let target = if authority == "hub.invalid" { format!("{host}:{port}") } else { authority.to_owned() };
    let mut server = TcpStream::connect(target).ok()?;
    let head =
        head.replacen(absolute, &format!("/{path}"), 1).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    let mut client = client;
    client.write_all(&answer).ok()
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let server = server_with(1 << 20);
    let to = server.url().trim_start_matches("http://").to_owned();
    let (address, told_proxy) = proxy(to);
    let cache = tempfile::tempdir().unwrap();
    // The server names its storage by the address of this machine, which needs no proxy.
    let mut process = child("http://hub.invalid", cache.path(), &[("http_proxy", &address)]);
    let last = told(&mut process).last().unwrap();
    process.wait().unwrap();
    assert_eq!(last.0, "peak", "by way of the proxy it ends right: {last:?}");
    let heads: Vec<String> = told_proxy.try_iter().collect();
    assert!(
        heads.iter().any(|head| head.starts_with("GET http://hub.invalid/api/models/acme/model/")),
        "{heads:?}"
    );
    let password = "proxy-authorization: basic ";
    assert!(heads.iter().all(|head| head.to_ascii_lowercase().contains(password)), "who one is: {heads:?}");

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://me:ProxyPassword@{free}");
    for (why, variables) in [
        ("a proxy that is not there", vec![("http_proxy", nobody.as_str())]),
        ("no proxy for this name", vec![("http_proxy", &address), ("no_proxy", "hub.invalid")]),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let mut process = child("http://hub.invalid", cache.path(), &variables);
        let last = told(&mut process).last().unwrap();
        process.wait().unwrap();
        assert_eq!(last.0, "error", "{why}: {last:?}");
        assert!(last.1.contains("the Hub cannot be reached"), "{why} is told: {last:?}");
        assert!(!last.1.contains("ProxyPassword") && !last.1.contains("TopSecret"), "{why}: {last:?}");
    }
    assert_eq!(told_proxy.try_iter().count(), 0, "a name that needs no proxy does not go there");
}
