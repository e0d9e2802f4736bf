//! A real keychain: gnome-keyring in a D-Bus session of its own.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use hub::{Environment, PlaceState, Token, TokenPlaces, TokenSource, Tokens};

/// Set by the outer test for the inner one.
const IN_SESSION: &str = "MODELFORGE_TEST_KEYCHAIN";

/// What a D-Bus session does about a service that is asked for and not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bus {
    StartsServices,
    /// As in a container.
    StartsNothing,
}

const STARTS_NOTHING: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>"#;

/// Runs a test of this file in a D-Bus session of its own after `before`, a line of shell with a keyring's password as
/// input; none, said out loud, where the programs for it are missing.
fn in_session(bus: Bus, before: &str, test: &str) -> Option<String> {
    let exists = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !exists("dbus-run-session") || !exists("gnome-keyring-daemon") {
        // Written past the test's captured output: a skipped test must be seen.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: needs dbus-run-session and gnome-keyring-daemon (Debian: dbus, gnome-keyring)"
        );
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bus.conf");
    std::fs::write(&config, STARTS_NOTHING).unwrap();
    let session = format!("{before} && exec \"$0\" \"$@\"");
    let mut command = Command::new("dbus-run-session");
    if bus == Bus::StartsNothing {
        command.arg("--config-file").arg(&config);
    }
    command.args(["--", "sh", "-c", &session]).arg(std::env::current_exe().unwrap());
    Some(inner(command, test))
}

/// Runs a test of this file by `command`, with nothing in its environment that tells of a desktop.
fn inner(mut command: Command, test: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut process = command
        .args(["--exact", &format!("keychain::{test}"), "--ignored", "--nocapture"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path())
        .env(IN_SESSION, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(b"password").unwrap();
    let output = process.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "in the session:\n{said}");
    assert!(!said.contains("hf_in_keychain"), "the token is not shown");
    said
}

const UNLOCKED: &str = "gnome-keyring-daemon --unlock --components=secrets >/dev/null";

#[test]
#[cfg(target_os = "linux")]
fn a_token_is_kept_in_the_keychain() {
    in_session(Bus::StartsServices, UNLOCKED, "inside_a_session");
}

#[test]
#[cfg(target_os = "linux")]
fn a_locked_keychain_is_told_and_the_next_place_is_used() {
    // The token is written, then another daemon comes that nobody gives the password to.
    let before = format!(
        "{UNLOCKED} && \"$0\" --exact keychain::leave_a_token --ignored && \
         gnome-keyring-daemon --replace --components=secrets >/dev/null"
    );
    in_session(Bus::StartsServices, &before, "inside_a_locked_session");
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_bus_the_next_place_is_used() {
    inner(Command::new(std::env::current_exe().unwrap()), "inside_no_session");
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_daemon_the_next_place_is_used() {
    in_session(Bus::StartsNothing, "true", "inside_no_session");
}

#[tokio::test]
#[ignore = "run by a_locked_keychain_is_told_and_the_next_place_is_used"]
async fn leave_a_token() {
    if std::env::var_os(IN_SESSION).is_some() {
        let tokens = Tokens::new(TokenPlaces { keychain: true, ..TokenPlaces::default() });
        assert_eq!(tokens.set("hf_in_keychain", false).await.unwrap(), TokenSource::Keychain);
    }
}

/// The state of each place.
async fn states(tokens: &Tokens) -> Vec<PlaceState> {
    tokens.places().await.unwrap().into_iter().map(|place| place.state).collect()
}

#[tokio::test]
#[ignore = "run by a_locked_keychain_is_told_and_the_next_place_is_used"]
async fn inside_a_locked_session() {
    if std::env::var_os(IN_SESSION).is_none() {
        return;
    }
    let environment =
        Environment { token: Some(Token::parse("hf_variable").unwrap()), ..Environment::default() };
    let tokens = Tokens::new(TokenPlaces { keychain: true, file: None, environment });
    assert_eq!(tokens.source().await.unwrap(), TokenSource::Environment, "what is locked is passed over");
    use PlaceState::*;
    assert_eq!(states(&tokens).await, [Locked, Empty, Missing, InUse, Empty], "and told");
    assert_eq!(tokens.set("hf_entered", false).await.unwrap(), TokenSource::Memory, "a new one is held");
    assert_eq!(states(&tokens).await, [Locked, InUse, Missing, Another, Empty], "before the environment's");
    assert_eq!(tokens.clear().await.unwrap(), TokenSource::Environment, "and can be forgotten");
}

#[tokio::test]
#[ignore = "run by other tests in a session of its own"]
async fn inside_no_session() {
    if std::env::var_os(IN_SESSION).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = Some(folder.path().join("hub_token"));
    let tokens = Tokens::new(TokenPlaces { keychain: true, file, ..TokenPlaces::default() });
    use PlaceState::*;
    assert_eq!(tokens.source().await.unwrap(), TokenSource::None, "no keychain is no error");
    assert_eq!(states(&tokens).await, [Missing, Empty, Empty, Empty, Empty], "it is told");
    assert_eq!(tokens.set("hf_any", false).await.unwrap(), TokenSource::Memory, "memory takes its place");
    assert_eq!(tokens.set("hf_any", true).await.unwrap(), TokenSource::File, "or a file, with consent");
    assert_eq!(states(&tokens).await, [Missing, Empty, InUse, Empty, Empty], "which is told");
    assert_eq!(tokens.clear().await.unwrap(), TokenSource::None, "and forgets");
}

#[tokio::test]
#[ignore = "run by a_token_is_kept_in_the_keychain in a session of its own"]
async fn inside_a_session() {
    if std::env::var_os(IN_SESSION).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub_token");
    let environment =
        Environment { token: Some(Token::parse("hf_variable").unwrap()), ..Environment::default() };
    let places = TokenPlaces { keychain: true, file: Some(file.clone()), environment };
    let tokens = Tokens::new(places.clone());
    assert_eq!(
        tokens.source().await.unwrap(),
        TokenSource::Environment,
        "an empty keychain has nothing to say"
    );
    assert_eq!(
        tokens.set("hf_in_keychain", true).await.unwrap(),
        TokenSource::Keychain,
        "a keychain comes first"
    );
    assert!(!file.exists(), "with a keychain no file is written");
    let restarted = Tokens::new(places.clone());
    assert_eq!(restarted.source().await.unwrap(), TokenSource::Keychain, "it outlives the process");
    assert_eq!(
        restarted.get().await.unwrap(),
        Some(Token::parse("hf_in_keychain").unwrap()),
        "the same token"
    );
    assert_eq!(restarted.clear().await.unwrap(), TokenSource::Environment, "cleared");
    assert_eq!(Tokens::new(places).source().await.unwrap(), TokenSource::Environment, "and stays cleared");
}
