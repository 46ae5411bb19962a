//! `walhook setup`: create the publication and the slot.

use clap::Args;

use crate::config::{Flags, Needs};

use super::{Failure, Globals};

/// What can be said after `walhook setup`.
#[derive(Args, Debug)]
pub struct SetupArgs {
    /// The configuration on the command line instead of in a file.
    #[command(flatten)]
    pub flags: Flags,

    /// Print the SQL and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl SetupArgs {
    /// Does it.
    pub(crate) fn run(self, globals: &Globals) -> Result<(), Failure> {
        let _config = super::load(globals, &self.flags, Needs::Tables)?;
        Err(Failure::failed("`walhook setup` is not wired yet"))
    }
}
