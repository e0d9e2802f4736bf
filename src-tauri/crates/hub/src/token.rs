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

use crate::{
    environment::Environment,
    error::HubError,
    keychain::{self, Probe},
};

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

/// What is found in one of the places, in the order in which they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenPlace {
    /// The place.
    pub place: TokenSource,
    /// What is there.
    pub state: PlaceState,
}

/// What a place for tokens holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlaceState {
    /// The token that is in use.
    InUse,
    /// A token, but an earlier place has one too.
    Another,
    /// Nothing.
    Empty,
    /// It is locked, and was not unlocked.
    Locked,
    /// This system has none, or it is not to be used.
    Missing,
    /// A file that others can read, which is not trusted.
    Exposed,
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

    /// What each place holds, in the order in which they count.
    ///
    /// # Errors
    /// A keychain or a file that cannot be read.
    pub async fn places(&self) -> Result<Vec<TokenPlace>, HubError> {
        // A file that is not trusted is what this is to show.
        let source = match self.look().await {
            Ok(found) => found.source,
            Err(HubError::ExposedTokenFile(_)) => TokenSource::None,
            Err(error) => return Err(error),
        };
        let mut places = Vec::new();
        for place in TokenSource::PLACES {
            let state = match self.0.places.state_of(*place).await? {
                _ if *place == source => PlaceState::InUse,
                PlaceState::InUse => PlaceState::Another,
                state => state,
            };
            places.push(TokenPlace { place: *place, state });
        }
        Ok(places)
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

impl TokenSource {
    /// In the order in which they count.
    const PLACES: &'static [Self] =
        &[Self::Keychain, Self::Memory, Self::File, Self::Environment, Self::PythonLogin];
}

impl TokenPlaces {
    /// What a place holds by itself.
    async fn state_of(&self, place: TokenSource) -> Result<PlaceState, HubError> {
        let has = |token: bool| if token { PlaceState::InUse } else { PlaceState::Empty };
        Ok(match place {
            TokenSource::Keychain if !self.keychain => PlaceState::Missing,
            TokenSource::Keychain => match keychain::probe().await {
                Probe::Works => has(keychain::read().await?.is_some()),
                Probe::Locked => PlaceState::Locked,
                Probe::Missing => PlaceState::Missing,
            },
            TokenSource::File => match &self.file {
                None => PlaceState::Missing,
                Some(path) => match read_file(path).map_err(HubError::file(path))? {
                    Some(_) if is_exposed(path).map_err(HubError::file(path))? => PlaceState::Exposed,
                    token => has(token.is_some()),
                },
            },
            TokenSource::Environment => has(self.environment.token.is_some()),
            TokenSource::PythonLogin => has(self.login().is_some()),
            // Only who holds it knows.
            TokenSource::Memory | TokenSource::None => PlaceState::Empty,
        })
    }

    /// A login of other programs that cannot be read is as good as none.
    fn login(&self) -> Option<Token> {
        self.environment.token_file.as_deref().and_then(|path| read_file(path).ok().flatten())
    }

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
        match self.login() {
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
