//! What the variables of the Hub's Python tools say, so that a machine set up for them is set up for this too.

use std::path::PathBuf;

use crate::token::{self, Token};

/// The variables that may hold an access token, the first one first. The second is the name that it had before.
pub const TOKEN_VARIABLES: [&str; 2] = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];

/// The settings in the environment. Nothing else in this crate reads a variable.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `HF_ENDPOINT`.
    pub endpoint: Option<String>,
    /// `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`.
    pub offline: bool,
    /// One of [`TOKEN_VARIABLES`], unless `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set.
    pub token: Option<Token>,
    /// Where `hf auth login` keeps its token: `HF_TOKEN_PATH`, else `HF_HOME/token`, else
    /// `~/.cache/huggingface/token`; none where `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set.
    pub token_file: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process.
    pub fn read() -> Self {
        Self::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Self {
        let given = |name| variable(name).map(|v| v.trim().to_string()).filter(|v| !v.is_empty());
        let is_set = |name| given(name).is_some_and(|v| token::is_true(&v));
        let implicit = !is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN");
        let hugging_face = || {
            given("HF_HOME")
                .map(PathBuf::from)
                .or_else(|| given("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("huggingface")))
                .or_else(|| home.map(|home| home.join(".cache").join("huggingface")))
        };
        Self {
            endpoint: given("HF_ENDPOINT"),
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().any(is_set),
            token: TOKEN_VARIABLES
                .into_iter()
                .find_map(given)
                .filter(|_| implicit)
                .and_then(|text| Token::parse(&text).ok()),
            token_file: given("HF_TOKEN_PATH")
                .map(PathBuf::from)
                .or_else(|| hugging_face().map(|folder| folder.join("token")))
                .filter(|_| implicit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        Environment::from_variables(find, Some("/their".into()))
    }

    #[test]
    fn the_variables_mean_what_they_mean_to_the_python_tools() {
        let nothing = read(&[]);
        assert!(!nothing.offline && nothing.endpoint.is_none() && nothing.token.is_none(), "{nothing:?}");
        assert_eq!(
            nothing.token_file,
            Some("/their/.cache/huggingface/token".into()),
            "where the Python tools log in by default"
        );
        for (value, offline) in
            [("1", true), ("TRUE", true), ("yes", true), ("on", true), ("0", false), ("", false)]
        {
            assert_eq!(read(&[("HF_HUB_OFFLINE", value)]).offline, offline, "HF_HUB_OFFLINE={value:?}");
        }
        assert!(read(&[("TRANSFORMERS_OFFLINE", "1")]).offline, "the variable of another of these tools");
        let set = read(&[("HF_ENDPOINT", "http://mirror"), ("HF_TOKEN", " hf_abc\n"), ("HF_HOME", "/hf")]);
        assert_eq!(set.endpoint.as_deref(), Some("http://mirror"), "HF_ENDPOINT is the address");
        assert_eq!(
            set.token.map(|t| t.secret().to_string()).as_deref(),
            Some("hf_abc"),
            "spaces are no part of it"
        );
        let old = read(&[("HUGGING_FACE_HUB_TOKEN", "hf_old"), ("HF_TOKEN", "")]).token;
        assert_eq!(old.map(|t| t.secret().to_string()).as_deref(), Some("hf_old"), "the older name");
        assert_eq!(set.token_file, Some("/hf/token".into()), "HF_HOME moves the login");
        assert_eq!(
            read(&[("HF_HOME", "/hf"), ("HF_TOKEN_PATH", "/else")]).token_file,
            Some("/else".into()),
            "HF_TOKEN_PATH comes before HF_HOME"
        );
        let none = read(&[("HF_TOKEN", "hf_abc"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]);
        assert!(none.token.is_none() && none.token_file.is_none(), "an implicit token can be switched off");
    }
}
