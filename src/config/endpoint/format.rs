//! Formats and templates.

use std::path::Path;

use super::Result;
use crate::config::error::{ConfigError, Located};
use crate::event::Format;

pub(super) fn build(
    format: Option<Located<String>>,
    template: Option<Located<String>>,
    content_type: Option<Located<String>>,
    _directory: &Path,
) -> Result<Format> {
    match template.or(content_type).or(format.filter(|format| format.value != "walhook")) {
        None => Ok(Format::Walhook),
        Some(other) => {
            let message = "is not supported by this version of walhook: remove it";
            Err(ConfigError::at(&other.place, message))
        }
    }
}
