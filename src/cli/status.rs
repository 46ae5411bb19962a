//! `walhook status`: positions, lag and health.

use clap::Args;

use crate::config::{Flags, Needs};

use super::{Failure, Globals};

/// What can be said after `walhook status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The configuration on the command line instead of in a file.
    #[command(flatten)]
    pub flags: Flags,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

impl StatusArgs {
    /// Does it.
    pub(crate) fn run(self, globals: &Globals) -> Result<(), Failure> {
        let _config = super::load(globals, &self.flags, Needs::Source)?;
        Err(Failure::failed("`walhook status` is not wired yet"))
    }
}
