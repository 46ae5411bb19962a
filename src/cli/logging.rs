//! The log on stderr.

use std::io;

use tracing_subscriber::EnvFilter;

use super::{Failure, Globals, LogFormat};

/// Starts logging as the options and `RUST_LOG` say; only warnings if `quiet` and they say nothing.
pub(crate) fn start(globals: &Globals, quiet: bool) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.trim().is_empty() => {
            EnvFilter::try_new(&directives).map_err(|error| {
                Failure::usage(format_args!(
                    "RUST_LOG is {directives:?}, which is no log filter ({error}): write a level such as \"debug\", or \"walhook=debug,info\""
                ))
            })?
        }
        _ => EnvFilter::new(match globals.verbose {
            0 if quiet => "warn",
            0 => "warn,walhook=info",
            1 => "info,walhook=debug",
            _ => "debug,walhook=trace",
        }),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(globals.log_format == LogFormat::Text && super::colour(&io::stderr()));
    // A second start in one process (tests) keeps the first one's settings.
    let _ = match globals.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}
