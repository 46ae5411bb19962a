//! How requests are made.

use reqwest::Method;

use super::Result;
use crate::config::error::{ConfigError, Located};

pub(super) fn build(
    method: Option<Located<String>>,
    compress: Option<Located<bool>>,
) -> Result<(Method, bool)> {
    let message = "is not supported by this version of walhook: remove it";
    if let Some(method) = method.filter(|method| method.value != "POST") {
        return Err(ConfigError::at(&method.place, message));
    }
    match compress {
        Some(compress) if compress.value => Err(ConfigError::at(&compress.place, message)),
        _ => Ok((Method::POST, false)),
    }
}
