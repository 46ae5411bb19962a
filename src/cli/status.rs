//! `walhook status`: positions, lag and health.

pub(super) mod json;
mod metrics;
mod text;

use clap::Args;

use crate::capture::CaptureKind;
use crate::config::{Config, Flags, Needs, Outline};
use crate::journal::{Journal, JournalStatus};
use crate::postgres::connect;
use crate::source::status::{DatabaseStatus, status};

use super::{Failure, Globals};

/// What can be said after `walhook status`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit code 0 if publication and slot, or outbox and triggers, and the journal are \
                  there and usable, else 1."
)]
pub struct StatusArgs {
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,

    /// Print it as metrics in Prometheus' text format, for a collector that reads files
    #[arg(long, conflicts_with = "json")]
    pub metrics: bool,

    // Last: its heading would stand above what comes after it.
    /// The configuration on the command line instead of in a file.
    #[command(flatten)]
    pub flags: Flags,
}

/// Both halves, each of which may be missing: the database can be down while the journal is there,
/// and the other way round.
struct Status {
    connection: String,
    capture: CaptureKind,
    database: Result<DatabaseStatus, String>,
    journal_path: String,
    /// None before the first run.
    journal: Result<Option<JournalStatus>, String>,
    /// The endpoints of the configuration, where they can be read.
    configured: Option<Vec<String>>,
}

impl Status {
    /// Whether the endpoint is in the configuration, as far as that is known.
    fn is_configured(&self, endpoint: &str) -> Option<bool> {
        Some(self.configured.as_ref()?.iter().any(|name| name == endpoint))
    }

    /// Whether both can be read, and changes can come: what a health check asks. Whether somebody
    /// reads the slot right now is not part of it, since a reconnection heals itself.
    fn is_well(&self) -> bool {
        let Ok(database) = &self.database else { return false };
        let source = match self.capture {
            CaptureKind::Replication => {
                let slot = database.slot.as_ref().is_some_and(|slot| !slot.is_lost());
                slot && database.publication.is_some()
            }
            CaptureKind::Outbox => {
                database.outbox.as_ref().is_some_and(|outbox| outbox.unfit.is_empty())
            }
        };
        source && self.journal.is_ok()
    }
}

impl StatusArgs {
    /// Does it.
    pub(crate) fn run(self, globals: &Globals) -> Result<(), Failure> {
        let config = super::load(globals, &self.flags, Needs::Source)?;
        let mut status = super::block_on(async { Ok(look(&config).await) })?;
        if let Some(file) = super::load::named_file(globals).filter(|_| !self.flags.given()) {
            status.configured = Outline::load(&file).ok().and_then(|outline| outline.endpoints);
        }
        if self.json {
            super::print(format_args!("{:#}\n", json::of(&status)))?;
        } else if self.metrics {
            super::print(metrics::of(&status))?;
        } else {
            super::print(text::of(&status))?;
        }
        match status.is_well() {
            true => Ok(()),
            false => Err(Failure::reported()),
        }
    }
}

async fn look(config: &Config) -> Status {
    let path = &config.journal.path;
    Status {
        connection: config.source.connection.to_string(),
        capture: config.source.capture,
        database: in_database(config).await,
        journal_path: path.display().to_string(),
        journal: match path.exists() {
            false => Ok(None),
            true => Journal::open_read_only(path)
                .and_then(|reader| reader.status())
                .map(Some)
                .map_err(|error| error.to_string()),
        },
        configured: None,
    }
}

async fn in_database(config: &Config) -> Result<DatabaseStatus, String> {
    let client = connect(&config.source.connection).await.map_err(|error| error.to_string())?;
    let options = config.source.options(&config.tables);
    status(&client, &options).await.map_err(|error| error.to_string())
}
