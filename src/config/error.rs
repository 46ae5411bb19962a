//! What is wrong with a configuration, and where.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// A configuration that cannot be used: one sentence that says where, what is wrong and what to
/// write instead. It never shows a password, a secret or the value of a header.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    place: Option<Place>,
    message: String,
}

impl ConfigError {
    /// Something is wrong at `place`. `predicate` continues the sentence that the place begins:
    /// `` `endpoint.timeout` `` … `is "soon", which is no duration`.
    pub(crate) fn at(place: &Place, predicate: impl fmt::Display) -> ConfigError {
        ConfigError { place: Some(place.clone()), message: predicate.to_string() }
    }

    /// A whole sentence that belongs to no single place.
    pub(crate) fn general(sentence: impl fmt::Display) -> ConfigError {
        ConfigError { place: None, message: sentence.to_string() }
    }

    /// The line of the file, counted from 1, if the error belongs to one.
    pub fn line(&self) -> Option<usize> {
        match self.place {
            Some(Place::File { line, .. }) => Some(line),
            _ => None,
        }
    }

    /// The key as it would be written in the file, such as `endpoint.timeout`, if the error
    /// belongs to one.
    pub fn key(&self) -> Option<&str> {
        match &self.place {
            Some(Place::File { key, .. }) if !key.is_empty() => Some(key),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place} {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigError({:?})", self.to_string())
    }
}

impl Error for ConfigError {}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a file.
    File {
        /// The file, as the user named it.
        file: Arc<str>,
        /// Counted from 1.
        line: usize,
        /// Such as `endpoint.timeout`; empty when the place is the file itself.
        key: String,
    },
    /// On the command line.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line, key } if key.is_empty() => write!(f, "{file}:{line}:"),
            Place::File { file, line, key } => write!(f, "{file}:{line}: `{key}`"),
            Place::Flag(flag) => write!(f, "`{flag}`"),
        }
    }
}

/// A value and where it was written. It is not `Debug`, since it may hold a secret.
#[derive(Clone)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

impl<T> Located<T> {
    /// Replaces the value by what `check` makes of it. Its error is a predicate, see
    /// [`ConfigError::at`].
    pub(crate) fn try_map<U, E: fmt::Display>(
        self,
        check: impl FnOnce(T) -> Result<U, E>,
    ) -> Result<Located<U>, ConfigError> {
        match check(self.value) {
            Ok(value) => Ok(Located { value, place: self.place }),
            Err(error) => Err(ConfigError::at(&self.place, error)),
        }
    }
}
