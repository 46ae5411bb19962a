//! The log on stderr.

use std::io::{self, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::{Failure, Globals, LogFormat};

/// Starts logging as the options and `RUST_LOG` say; only warnings if `quiet` and they say nothing.
pub(crate) fn start(globals: &Globals, quiet: bool) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.trim().is_empty() => {
            let filter = EnvFilter::try_new(&directives).map_err(|error| {
                Failure::usage(format_args!(
                    "RUST_LOG is {directives:?}, which is no log filter ({error}): write a level such as \"debug\", or \"walhook=debug,info\""
                ))
            })?;
            if leaves_walhook_out(&directives) {
                let _ = writeln!(
                    io::stderr(),
                    "note: RUST_LOG is {directives:?}, which leaves walhook itself out of the log: a level such as \"info\", or \"walhook=info\", takes it in"
                );
            }
            filter
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

/// Whether the directives name other crates only. A misspelt level is taken for the name of a crate,
/// and the log stays empty.
fn leaves_walhook_out(directives: &str) -> bool {
    !directives.split(',').map(str::trim).any(|directive| {
        directive.parse::<LevelFilter>().is_ok()
            || directive.starts_with("walhook")
            || directive.starts_with('[')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_noticed() {
        for misspelt in ["verbose", "hyper=debug", "inf, h2=warn"] {
            assert!(leaves_walhook_out(misspelt), "{misspelt}");
        }
        for fine in ["debug", "walhook=debug,info", "hyper=debug, WARN", "walhook::capture", "0"] {
            assert!(!leaves_walhook_out(fine), "{fine}");
        }
    }
}
