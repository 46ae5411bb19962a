//! The configuration: raw, as written in a file or on the command line, becomes ready, checked
//! and built. What is wrong with it is one sentence with file, line and key. Secrets redact
//! themselves.

mod endpoint;
mod error;
mod expand;
mod flags;
mod name;
mod outline;
mod raw;
mod ready;
mod secret_file;
mod section;
mod suggest;
mod table;
mod units;

use std::path::Path;

pub use error::ConfigError;
pub use flags::Flags;
pub use outline::Outline;
pub use ready::{Config, DaemonConfig, JournalConfig, Needs, OutboxConfig, SourceConfig};
pub(crate) use secret_file::create as keep_secret;
pub use secret_file::{read_secret_file, read_secrets_file};
pub(crate) use suggest::nearest;
pub use table::TableConfig;
pub use units::{parse_duration, parse_size};

use raw::RawConfig;

impl Config {
    /// Reads a file. Its variables come from the process's environment; relative paths in it
    /// start from its folder.
    pub fn load(path: &Path, needs: Needs) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError::general(format_args!(
                "cannot read the configuration {}: {error}; write one, name another with --config, or say everything with --source, --table and --to",
                path.display()
            ))
        })?;
        Config::parse(path, &text, needs, &|name| std::env::var(name).ok())
    }

    /// Reads the text of a file called `path`, with variables from `variable`.
    pub fn parse(
        path: &Path,
        text: &str,
        needs: Needs,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        Config::build(RawConfig::parse(path, text, variable)?, needs)
    }

    /// What the command line says. `secret` signs when it names none. A missing publication and
    /// slot are created, unlike with a file that does not say so.
    pub fn from_flags(
        flags: &Flags,
        secret: Option<(&'static str, String)>,
        needs: Needs,
    ) -> Result<Config, ConfigError> {
        Config::build(flags.raw(secret)?, needs)
    }
}

#[cfg(test)]
mod tests;
