//! Whose access token it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Hub, error::HubError};

/// The account that an access token belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Account {
    /// The name that repositories of this account start with.
    pub name: String,
    /// The display name, where there is one.
    pub fullname: Option<String>,
    /// `user`, or `org` for the token of an organization.
    pub kind: String,
    /// Names of the organizations one is a member of.
    pub organizations: Vec<String>,
    /// What the token may do: `read`, `write`, `fineGrained`; absent where the Hub does not tell.
    pub token_role: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    name: String,
    fullname: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    orgs: Vec<Organization>,
    auth: Option<Authentication>,
}

#[derive(Deserialize)]
struct Organization {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Authentication {
    #[serde(rename = "accessToken")]
    access_token: Option<AccessToken>,
}

#[derive(Deserialize)]
struct AccessToken {
    role: Option<String>,
}

impl Hub {
    /// Asks the Hub whose token is in use.
    ///
    /// # Errors
    /// [`HubError::NotSignedIn`] without a token, [`HubError::TokenRefused`] where the Hub does not know it.
    pub async fn whoami(&self) -> Result<Account, HubError> {
        const WHAT: &str = "ask the Hub whose access token this is";
        self.http.online()?;
        let token = self.http.required_token().await?;
        let url = self.http.url(&["api", "whoami-v2"])?;
        let request = self.http.request(reqwest::Method::GET, url).token(Some(&token));
        let answer: Answer = match request.json(WHAT).await {
            Err(HubError::Refused { status: 401 | 403, .. }) => return Err(HubError::TokenRefused),
            other => other?,
        };
        Ok(Account {
            name: answer.name,
            fullname: answer.fullname.filter(|name| !name.is_empty()),
            kind: answer.kind.unwrap_or_else(|| "user".into()),
            organizations: answer.orgs.into_iter().filter_map(|org| org.name).collect(),
            token_role: answer.auth.and_then(|auth| auth.access_token).and_then(|token| token.role),
        })
    }
}
