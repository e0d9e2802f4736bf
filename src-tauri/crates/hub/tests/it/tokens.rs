//! Where a token is kept when there is no keychain, and which one counts.

use std::fs;

use hub::{Environment, HubError, Token, TokenPlaces, TokenSource, Tokens};

async fn shown(tokens: &Tokens) -> (Option<Token>, TokenSource) {
    (tokens.get().await.unwrap(), tokens.source().await.unwrap())
}

fn token(text: &str) -> Option<Token> {
    Some(Token::parse(text).unwrap())
}

#[tokio::test]
async fn what_a_person_enters_comes_before_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let login = folder.path().join("login");
    fs::write(&login, "hf_login\n").unwrap();
    let environment = Environment { token_file: Some(login), ..Environment::default() };
    let both = Environment { token: token("hf_variable"), ..environment.clone() };
    let file = Some(folder.path().join("data/hub_token"));
    let places = |environment| TokenPlaces { keychain: false, file: file.clone(), environment };

    let none = Tokens::new(TokenPlaces::default());
    assert_eq!(shown(&none).await, (None, TokenSource::None), "nothing is there");
    let tokens = Tokens::new(places(environment));
    assert_eq!(
        shown(&tokens).await,
        (token("hf_login"), TokenSource::PythonLogin),
        "the Python tools' login"
    );
    let tokens = Tokens::new(places(both.clone()));
    assert_eq!(
        shown(&tokens).await,
        (token("hf_variable"), TokenSource::Environment),
        "the variable before it"
    );

    assert_eq!(
        tokens.set(" hf_entered ", false).await.unwrap(),
        TokenSource::Memory,
        "no file without consent"
    );
    assert_eq!(shown(&tokens.clone()).await, (token("hf_entered"), TokenSource::Memory), "clones share it");
    assert!(!file.as_ref().unwrap().exists(), "no file without consent");
    assert_eq!(
        Tokens::new(places(both.clone())).source().await.unwrap(),
        TokenSource::Environment,
        "memory ends"
    );

    assert_eq!(tokens.set("hf_kept", true).await.unwrap(), TokenSource::File, "a file with consent");
    let restarted = Tokens::new(places(both.clone()));
    assert_eq!(shown(&restarted).await, (token("hf_kept"), TokenSource::File), "it is there after a restart");
    assert_eq!(restarted.clear().await.unwrap(), TokenSource::Environment, "what the environment says stays");
    assert!(!file.as_ref().unwrap().exists(), "what was kept is gone");
    assert_eq!(shown(&Tokens::new(places(both))).await.1, TokenSource::Environment, "and stays gone");
}

#[tokio::test]
async fn text_that_is_no_token_is_refused() {
    let tokens = Tokens::new(TokenPlaces::default());
    for bad in ["", "  ", "two words", "line\nbreak", "gr\u{fc}n", &"x".repeat(600), "nul\0"] {
        let refused = tokens.set(bad, false).await;
        assert!(matches!(refused, Err(HubError::BadToken)), "{bad:?} would break a header: {refused:?}");
    }
    assert_eq!(shown(&tokens).await, (None, TokenSource::None), "nothing of it is kept");
}

#[tokio::test]
#[cfg(unix)]
async fn a_token_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub_token");
    let places = TokenPlaces { file: Some(file.clone()), ..TokenPlaces::default() };
    Tokens::new(places.clone()).set("hf_kept", true).await.unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "nobody else may read it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = Tokens::new(places).get().await;
    assert!(
        matches!(exposed, Err(HubError::ExposedTokenFile(_))),
        "what others can read is not trusted: {exposed:?}"
    );
}
