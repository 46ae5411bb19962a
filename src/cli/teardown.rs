//! `walhook teardown`: drop the slot and the publication.

use clap::Args;

use crate::config::{Flags, Needs};

use super::{Failure, Globals};

/// What can be said after `walhook teardown`.
#[derive(Args, Debug)]
pub struct TeardownArgs {
    /// The configuration on the command line instead of in a file.
    #[command(flatten)]
    pub flags: Flags,

    /// Print the SQL and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl TeardownArgs {
    /// Does it.
    pub(crate) fn run(self, globals: &Globals) -> Result<(), Failure> {
        let _config = super::load(globals, &self.flags, Needs::Source)?;
        Err(Failure::failed("`walhook teardown` is not wired yet"))
    }
}
