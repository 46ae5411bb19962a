//! Where requests may go, through what, and whom they trust.

use std::path::Path;

use url::Url;

use super::Result;
use crate::config::error::{ConfigError, Located};
use crate::config::raw::RawTls;
use crate::delivery::{EndpointTls, Networks};

type List = Located<Vec<Located<String>>>;

const UNSUPPORTED: &str = "is not supported by this version of walhook: remove it";

pub(super) fn build(private: bool, allow: Option<List>, deny: Option<List>) -> Result<Networks> {
    match allow.or(deny) {
        None => Ok(Networks { private, ..Networks::default() }),
        Some(list) => Err(ConfigError::at(&list.place, UNSUPPORTED)),
    }
}

pub(super) fn proxy(raw: Located<String>) -> Result<Url> {
    Err(ConfigError::at(&raw.place, UNSUPPORTED))
}

pub(super) fn tls(raw: RawTls, _directory: &Path) -> Result<EndpointTls> {
    let _ = (raw.ca, raw.client_cert, raw.client_key);
    Err(ConfigError::at(&raw.place, UNSUPPORTED))
}
