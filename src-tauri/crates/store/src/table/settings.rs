//! The app's settings: one row of JSON, so that a setting can be added without a migration.

use rusqlite::{Connection, OptionalExtension, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use types::FieldError;
use url::Url;

pub(crate) const CREATE: &str = "
CREATE TABLE settings (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    json TEXT NOT NULL CHECK (json_valid(json))
) STRICT;
";

/// Which colours the app is drawn in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// As the system is.
    #[default]
    System,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// What the person set for the whole app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Which colours the app is drawn in.
    pub theme: Theme,
    /// The language tag (BCP 47) of the app's texts; without one, the system's language.
    pub language: Option<String>,
    /// Whether to stay away from the network: only what is on this machine is used.
    pub offline: bool,
    /// The http or https address of another Hugging Face Hub; without one, the public Hub.
    pub hub_endpoint: Option<String>,
    /// Where runs and chats are computed: `auto` (the NVIDIA card with the most free memory, else the processor), `cpu`, or the UUID of a
    /// card.
    pub compute_on: String,
    /// A model that nobody talks to is taken out of memory after this many minutes; 0 keeps it.
    pub unload_after_minutes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: Theme::System,
            language: None,
            offline: false,
            hub_endpoint: None,
            compute_on: "auto".into(),
            unload_after_minutes: 15,
        }
    }
}

impl Settings {
    /// The first value that cannot be kept.
    pub fn problem(&self) -> Option<FieldError> {
        if let Some(language) = &self.language
            && !is_language_tag(language)
        {
            return Some(FieldError::value("language", "must be a language tag such as en or pt-BR"));
        }
        if !is_place(&self.compute_on) {
            let reason = "must be auto, cpu, or the UUID of a card such as GPU-5e2f…";
            return Some(FieldError::value("compute_on", reason));
        }
        let reason = endpoint_problem(self.hub_endpoint.as_deref()?)?;
        Some(FieldError::value("hub_endpoint", reason))
    }

    /// A setting that is absent or that this version does not understand has its default.
    fn lenient(kept: Map<String, Value>) -> Self {
        kept.into_iter().fold(Self::default(), |settings, (name, value)| {
            let changed = serde_json::to_value(&settings).and_then(|mut all| {
                if let Some(slot) = all.get_mut(&name) {
                    *slot = value;
                }
                serde_json::from_value(all)
            });
            changed.ok().filter(|new: &Self| new.problem().is_none()).unwrap_or(settings)
        })
    }
}

fn is_language_tag(text: &str) -> bool {
    let subtag =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    text.len() <= 35 && text.split('-').all(subtag)
}

/// A card's UUID goes into the environment of engines.
fn is_place(text: &str) -> bool {
    let uuid = |rest: &str| {
        !rest.is_empty()
            && text.len() <= 80
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/".contains(&b))
    };
    matches!(text, "auto" | "cpu")
        || text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-")).is_some_and(uuid)
}

/// The address goes into requests that carry a token, so it must be plainly a server and hold no secret itself.
fn endpoint_problem(text: &str) -> Option<&'static str> {
    const ADDRESS: &str = "must be an http or https address such as https://huggingface.co";
    let Ok(url) = Url::parse(text) else { return Some(ADDRESS) };
    let plain = url.query().is_none() && url.fragment().is_none();
    match () {
        () if text.len() > 2048 || !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            Some(ADDRESS)
        }
        () if !url.username().is_empty() || url.password().is_some() => {
            Some("must not hold a name or password: set a token instead")
        }
        () if !plain => Some("must end before any ? or #"),
        () => None,
    }
}

/// The settings kept last; the defaults on a fresh database.
pub(crate) fn read(db: &Connection) -> Result<Settings> {
    let kept = db
        .query_row("SELECT json FROM settings", [], |row| super::from_json::<Map<String, Value>>(row, "json"))
        .optional()?;
    Ok(kept.map(Settings::lenient).unwrap_or_default())
}

/// Keeps the settings in place of the ones before.
pub(crate) fn write(db: &Connection, settings: &Settings) -> Result<()> {
    db.execute("INSERT OR REPLACE INTO settings VALUES (1, ?1)", [super::to_json(settings)?])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_understood_has_its_default_and_the_rest_stays() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(CREATE).unwrap();
        assert_eq!(read(&db).unwrap(), Settings::default(), "nothing is set at first");
        for (kept, want) in [
            (json!({}), Settings::default()),
            (json!({"offline": true}), Settings { offline: true, ..Settings::default() }),
            (
                json!({"theme": "sepia", "gone": [1], "unload_after_minutes": -1, "language": "de"}),
                Settings { language: Some("de".into()), ..Settings::default() },
            ),
            (json!({"hub_endpoint": "file:///etc/passwd"}), Settings::default()),
        ] {
            db.execute("INSERT OR REPLACE INTO settings VALUES (1, ?1)", [kept.to_string()]).unwrap();
            assert_eq!(read(&db).unwrap(), want, "{kept}");
        }
    }

    #[test]
    fn only_plain_addresses_and_language_tags_are_kept() {
        let with = |endpoint: &str| Settings { hub_endpoint: Some(endpoint.into()), ..Settings::default() };
        for good in ["https://huggingface.co", "http://127.0.0.1:8080/hub/"] {
            assert_eq!(with(good).problem(), None, "{good}");
        }
        for bad in [
            "",
            "huggingface.co",
            "ftp://x",
            "file:///etc",
            "http://",
            "https://me:secret@x",
            "https://x/?token=1",
            "https://x/#a",
            "javascript:alert(1)",
        ] {
            let problem = with(bad).problem().unwrap();
            assert_eq!(problem.field(), "hub_endpoint", "{bad:?} is refused by name");
        }
        for (place, good) in [
            ("auto", true),
            ("cpu", true),
            ("GPU-5e2f1c3a-0b1d-4c5e-9f00-aabbccddeeff", true),
            ("MIG-GPU-5e2f1c3a/1/0", true),
            ("", false),
            ("0", false),
            ("GPU-", false),
            ("GPU-1,GPU-2", false),
            ("gpu", false),
        ] {
            let settings = Settings { compute_on: place.into(), ..Settings::default() };
            assert_eq!(settings.problem().is_none(), good, "{place:?}");
        }
        for (tag, good) in [
            ("en", true),
            ("pt-BR", true),
            ("zh-Hant-TW", true),
            ("", false),
            ("../de", false),
            ("en_US", false),
        ] {
            let settings = Settings { language: Some(tag.into()), ..Settings::default() };
            assert_eq!(settings.problem().is_none(), good, "{tag:?}");
        }
    }
}
