//! A real keychain: gnome-keyring in a D-Bus session of its own.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use hub::{Environment, Token, TokenPlaces, TokenSource, Tokens};

/// Set by the outer test for the inner one.
const IN_SESSION: &str = "MODELFORGE_TEST_KEYCHAIN";

#[test]
#[cfg(target_os = "linux")]
fn a_token_is_kept_in_the_keychain() {
    let exists = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !exists("dbus-run-session") || !exists("gnome-keyring-daemon") {
        // Written past the test's captured output: a skipped test must be seen.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED a_token_is_kept_in_the_keychain: needs dbus-run-session and gnome-keyring-daemon \
             (Debian: dbus, gnome-keyring)"
        );
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let unlocked = "gnome-keyring-daemon --unlock --components=secrets >/dev/null && exec \"$0\" \"$@\"";
    let mut session = Command::new("dbus-run-session")
        .args(["--", "sh", "-c", unlocked])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "keychain::inside_a_session", "--ignored", "--nocapture"])
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
    session.stdin.take().unwrap().write_all(b"password").unwrap();
    let output = session.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "in the session:\n{said}");
    assert!(!said.contains("hf_in_keychain"), "the token is not shown");
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

#[tokio::test]
async fn without_a_keychain_the_next_place_is_used() {
    if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some() || !cfg!(target_os = "linux") {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED without_a_keychain_the_next_place_is_used: there is one here"
        );
        return;
    }
    let tokens = Tokens::new(TokenPlaces { keychain: true, ..TokenPlaces::default() });
    assert_eq!(tokens.source().await.unwrap(), TokenSource::None, "no keychain is no error");
    assert_eq!(tokens.set("hf_any", false).await.unwrap(), TokenSource::Memory, "memory takes its place");
    assert_eq!(tokens.clear().await.unwrap(), TokenSource::None, "and forgets");
}
