//! `walhook teardown`: drop the slot and the publication, or the outbox and its triggers.

use clap::Args;

use crate::config::{Config, Flags, Needs};
use crate::source::{SourceOptions, teardown};

use super::{Failure, Globals, database};

/// What can be said after `walhook teardown`.
#[derive(Args, Debug)]
pub struct TeardownArgs {
    /// Print the SQL and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Drop an outbox with the rows that nobody has read (capture = "outbox")
    #[arg(long)]
    pub discard_unread: bool,

    // Last: its heading would stand above what comes after it.
    /// The configuration on the command line instead of in a file.
    #[command(flatten)]
    pub flags: Flags,
}

impl TeardownArgs {
    /// Does it.
    pub(crate) fn run(self, globals: &Globals) -> Result<(), Failure> {
        let config = super::load(globals, &self.flags, Needs::Source)?;
        let mut options = config.source.options(&config.tables);
        if let Some(outbox) = &mut options.outbox {
            outbox.discard_unread = self.discard_unread;
        }
        super::block_on(tear_down(&config, &options, self.dry_run))
    }
}

async fn tear_down(config: &Config, options: &SourceOptions, dry_run: bool) -> Result<(), Failure> {
    let client = database::client(&config.source.connection).await?;
    if dry_run {
        let plan = teardown::plan(&client, options).await.map_err(Failure::failed)?;
        return database::print_plan(&plan);
    }
    let watcher = database::client(&config.source.connection).await?;
    let report = &mut database::print_progress;
    teardown::teardown(&client, &watcher, options, database::WAIT, report)
        .await
        .map_err(|error| database::failure(&error))
}
