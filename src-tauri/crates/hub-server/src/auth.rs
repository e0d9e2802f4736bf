//! Who asks, and what they may see; and refusals in the words that the Hub's clients look for.

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header::AUTHORIZATION, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::state::{Repo, Role, Trouble, User, Visibility, World, once_more};

/// An answer that says no.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, message: message.into(), retry_after: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        let headers = response.headers_mut();
        if !self.code.is_empty() {
            headers.insert("x-error-code", HeaderValue::from_static(self.code));
        }
        if let Ok(message) = HeaderValue::from_str(&self.message) {
            headers.insert("x-error-message", message);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The account whose token came along, none for an anonymous request.
pub(crate) fn user(world: &World, headers: &HeaderMap) -> Result<Option<User>, Refusal> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    match world.users.iter().find(|user| Some(user.token.as_str()) == token) {
        Some(user) => Ok(Some(user.clone())),
        None => Err(Refusal::new(401, "", "Invalid credentials in Authorization header")),
    }
}

pub(crate) fn signed_in(world: &World, headers: &HeaderMap) -> Result<User, Refusal> {
    user(world, headers)?.ok_or_else(|| Refusal::new(401, "", "Invalid username or password."))
}

/// The repository, for someone who may know that it is there.
pub(crate) fn visible<'w>(world: &'w mut World, headers: &HeaderMap, id: &str) -> Result<&'w Repo, Refusal> {
    misbehave(world, headers, id)?;
    let user = user(world, headers)?;
    let missing = || match user {
        // The Hub does not tell the anonymous what is there.
        None => Refusal::new(401, "RepoNotFound", "Invalid username or password."),
        Some(_) => Refusal::new(404, "RepoNotFound", "Repository not found"),
    };
    match world.repos.get(id) {
        Some(repo) if repo.visibility == Visibility::Private && !owns(user.as_ref(), id) => Err(missing()),
        Some(repo) => Ok(repo),
        None => Err(missing()),
    }
}

/// The repository, for someone who may read its files.
pub(crate) fn readable<'w>(world: &'w mut World, headers: &HeaderMap, id: &str) -> Result<&'w Repo, Refusal> {
    let user = user(world, headers)?;
    let repo = visible(world, headers, id)?;
    if let Visibility::Gated(granted) = &repo.visibility {
        let may = owns(user.as_ref(), id) || user.as_ref().is_some_and(|user| granted.contains(&user.name));
        if !may {
            let status = if user.is_none() { 401 } else { 403 };
            return Err(Refusal::new(status, "GatedRepo", format!("Access to model {id} is restricted.")));
        }
    }
    Ok(repo)
}

/// Whether someone may write to the namespace that a repository is, or would be, in.
pub(crate) fn may_write(user: &User, id: &str) -> Result<(), Refusal> {
    if user.role != Role::Write {
        return Err(Refusal::new(403, "", "This token does not have the right to write"));
    }
    if !owns(Some(user), id) {
        return Err(Refusal::new(403, "", "You don't have the rights to write under this namespace"));
    }
    Ok(())
}

fn owns(user: Option<&User>, id: &str) -> bool {
    let owner = id.split('/').next().unwrap_or_default();
    user.is_some_and(|user| user.name == owner || user.organizations.iter().any(|name| name == owner))
}

/// The troubles that any request to a repository may meet.
fn misbehave(world: &mut World, headers: &HeaderMap, id: &str) -> Result<(), Refusal> {
    let trouble = world.suffer(id, |trouble| match trouble {
        Trouble::Unavailable { times } => {
            once_more(times).then(|| Refusal::new(503, "", "The Hub is being repaired"))
        }
        Trouble::RateLimited { times, retry_after } => {
            let seconds = *retry_after;
            once_more(times)
                .then(|| Refusal { retry_after: Some(seconds), ..Refusal::new(429, "", "Too many requests") })
        }
        Trouble::RepeatsToken => {
            let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            Some(Refusal::new(400, "", format!("I do not like {token}")))
        }
        _ => None,
    });
    trouble.map_or(Ok(()), Err)
}
