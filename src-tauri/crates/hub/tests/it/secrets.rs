//! The access token is in no text that a person, a log or another program could see.

use hub::{Environment, HubOptions, Push, Token, TokenPlaces, Tokens};
use hub_server::Trouble;
use types::ApiError;

use crate::{hub, hub_at, quiet, server_with_models, tokens};

const SECRET: &str = "hf_TopSecretTopSecret";

#[tokio::test]
async fn no_error_and_no_debug_text_has_the_token() {
    let server = server_with_models();
    server.add_user(hub_server::User {
        name: "carol".into(),
        token: SECRET.into(),
        role: hub_server::Role::Write,
        organizations: vec!["acme".into()],
    });
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let push = |repo: &str| Push {
        folder: folder.path().into(),
        files: vec![],
        repo: repo.into(),
        private: false,
        message: "Add".into(),
        into_existing: false,
    };
    let mut texts = Vec::new();
    for trouble in [
        Trouble::RepeatsToken,
        Trouble::Unavailable { times: 1000 },
        Trouble::RateLimited { times: 1000, retry_after: 3600 },
        Trouble::WrongByte,
        Trouble::HostileName("../x".into()),
        Trouble::Drop { times: 1000, after: 0 },
    ] {
        server.trouble("acme/public", &[trouble]);
        let hub = hub(&server, Some(SECRET));
        texts.push(
            hub.download("acme/public", "main", folder.path(), &mut quiet).await.map(|_| ()).unwrap_err(),
        );
    }
    for hub in [hub(&server, Some(SECRET)), hub_at(&format!("http://{free}"), Some(SECRET), false)] {
        texts.push(hub.push(push("other/new"), &mut quiet).await.map(|_| ()).unwrap_err());
        texts.push(hub.model_info("acme/nothing").await.map(|_| ()).unwrap_err());
    }
    let errors = texts.len();
    let mut texts: Vec<String> = texts
        .into_iter()
        .flat_map(|error| {
            let shown = [error.to_string(), format!("{error:?}"), format!("{error:#?}")];
            shown.into_iter().chain([serde_json::to_string(&ApiError::from(error)).unwrap()])
        })
        .collect();
    assert_eq!(texts.len(), errors * 4, "every error is shown in every way");

    let token = Token::parse(SECRET).unwrap();
    let environment = Environment { token: Some(token.clone()), ..Environment::default() };
    let places = TokenPlaces { environment: environment.clone(), ..TokenPlaces::default() };
    let held = Tokens::new(places.clone());
    assert_eq!(held.set(SECRET, false).await.unwrap(), hub::TokenSource::Memory, "it is held");
    let client = hub_at("http://localhost", Some(SECRET), false);
    let options = HubOptions::from_environment(&environment, tokens(Some(SECRET)));
    texts.extend([
        format!("{token:?}"),
        format!("{environment:?}"),
        format!("{places:?}"),
        format!("{held:?}"),
        format!("{client:?}"),
        format!("{options:?}"),
        format!("{:?}", Token::parse(&format!("{SECRET} {SECRET}")).unwrap_err()),
    ]);
    for text in texts {
        assert!(!text.contains("TopSecret"), "the token must not be shown: {text}");
        assert!(!text.contains("only-the-hub-gives-this"), "nor the signature of an address: {text}");
    }
}
