//! The access token: where it is kept, and that it is never shown.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::{environment::Environment, error::HubError, keychain};

const LONGEST_TOKEN: usize = 512;

/// An access token. It has no `Display` and its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes one word of visible ASCII, with spaces around it or not.
    ///
    /// # Errors
    /// [`HubError::BadToken`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let text = text.trim();
        let fits =
            !text.is_empty() && text.len() <= LONGEST_TOKEN && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(HubError::BadToken) }
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where the access token in use comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The system's keychain.
    Keychain,
    /// The memory of this process; it is gone when the app ends.
    Memory,
    /// A file in the app's data folder that only its owner can read.
    File,
    /// The variable `HF_TOKEN`.
    Environment,
    /// The file in which the Hub's Python tools keep their login.
    PythonLogin,
    /// There is no token.
    None,
}

/// Where a token may be kept and looked for.
#[derive(Debug, Clone, Default)]
pub struct TokenPlaces {
    /// Use the system's keychain, where there is one.
    pub keychain: bool,
    /// The file for a token that its owner allows to be written there. None: never in a file.
    pub file: Option<PathBuf>,
    /// What the environment says. It is read, never written.
    pub environment: Environment,
}

/// The access token of this process and the places it is kept in. Clones share them.
///
/// What a person entered in the app comes before what the environment says: keychain, memory, file, `HF_TOKEN`, the
/// Python tools' login. The keychain is asked once; what other programs change in it later is not seen.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    places: TokenPlaces,
    found: Mutex<Option<Found>>,
}

/// The outcome of a look into all places.
#[derive(Clone)]
struct Found {
    token: Option<Token>,
    source: TokenSource,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Tokens {
    /// Looks nowhere yet.
    pub fn new(places: TokenPlaces) -> Self {
        Self(Arc::new(Inner { places, found: Mutex::new(None) }))
    }

    /// The token in use.
    ///
    /// # Errors
    /// [`HubError::ExposedTokenFile`] where others can read the file it is kept in.
    pub async fn get(&self) -> Result<Option<Token>, HubError> {
        Ok(self.look().await?.token)
    }

    /// Where the token in use comes from.
    ///
    /// # Errors
    /// As for [`Tokens::get`].
    pub async fn source(&self) -> Result<TokenSource, HubError> {
        Ok(self.look().await?.source)
    }

    /// Keeps a token: in the keychain; without one in the file, where `allow_file` says that its owner wants that;
    /// else in memory. Says where.
    ///
    /// # Errors
    /// [`HubError::BadToken`] for text that is none; a keychain or a folder that refuses it.
    pub async fn set(&self, text: &str, allow_file: bool) -> Result<TokenSource, HubError> {
        let token = Token::parse(text)?;
        let mut found = self.0.found.lock().await;
        let source = if self.0.places.keychain && keychain::available().await {
            keychain::write(token.clone()).await?;
            self.remove_file()?;
            TokenSource::Keychain
        } else if let Some(path) = self.0.places.file.as_deref().filter(|_| allow_file) {
            write_private(path, token.secret().as_bytes()).map_err(HubError::file(path))?;
            TokenSource::File
        } else {
            self.remove_file()?;
            TokenSource::Memory
        };
        *found = Some(Found { token: Some(token), source });
        Ok(source)
    }

    /// Forgets the token that was set, wherever it is kept. What the environment says stays. Says what is in use now.
    ///
    /// # Errors
    /// A keychain or a file that cannot be changed.
    pub async fn clear(&self) -> Result<TokenSource, HubError> {
        let mut found = self.0.found.lock().await;
        if self.0.places.keychain && keychain::available().await {
            keychain::delete().await?;
        }
        self.remove_file()?;
        let rest = self.0.places.environment();
        let source = rest.source;
        *found = Some(rest);
        Ok(source)
    }

    async fn look(&self) -> Result<Found, HubError> {
        let mut found = self.0.found.lock().await;
        if let Some(found) = found.as_ref() {
            return Ok(found.clone());
        }
        let looked = self.0.places.look().await?;
        *found = Some(looked.clone());
        Ok(looked)
    }

    fn remove_file(&self) -> Result<(), HubError> {
        let Some(path) = &self.0.places.file else { return Ok(()) };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HubError::file(path)(error)),
            _ => Ok(()),
        }
    }
}

impl TokenPlaces {
    async fn look(&self) -> Result<Found, HubError> {
        if self.keychain
            && keychain::available().await
            && let Some(token) = keychain::read().await?
        {
            return Ok(Found { token: Some(token), source: TokenSource::Keychain });
        }
        if let Some(path) = &self.file
            && let Some(token) = read_file(path).map_err(HubError::file(path))?
        {
            if is_exposed(path).map_err(HubError::file(path))? {
                return Err(HubError::ExposedTokenFile(path.clone()));
            }
            return Ok(Found { token: Some(token), source: TokenSource::File });
        }
        Ok(self.environment())
    }

    fn environment(&self) -> Found {
        if let Some(token) = &self.environment.token {
            return Found { token: Some(token.clone()), source: TokenSource::Environment };
        }
        // A login of other programs that cannot be read is as good as none.
        let login = self.environment.token_file.as_deref().and_then(|path| read_file(path).ok().flatten());
        match login {
            Some(token) => Found { token: Some(token), source: TokenSource::PythonLogin },
            None => Found { token: None, source: TokenSource::None },
        }
    }
}

/// The values that the Python tools take for yes.
pub(crate) fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

fn read_file(path: &Path) -> io::Result<Option<Token>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = String::new();
    file.take(LONGEST_TOKEN as u64 * 2).read_to_string(&mut text)?;
    Ok(Token::parse(&text).ok())
}

/// Whether anyone but the owner can read it. Windows keeps a person's folders to that person.
fn is_exposed(path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        Ok(fs::metadata(path)?.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        fs::metadata(path).map(|_| false)
    }
}

/// A whole file or none, for its owner alone from its first byte.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // `tempfile` makes files that only their owner can read.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
