//! `walhook check`: findings, each with its remedy.

use clap::Args;

use crate::config::{Flags, Needs};

use super::{Failure, Globals};

/// What can be said after `walhook check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The configuration on the command line instead of in a file.
    #[command(flatten)]
    pub flags: Flags,

    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

impl CheckArgs {
    /// Does it.
    pub(crate) fn run(self, globals: &Globals) -> Result<(), Failure> {
        let _config = super::load(globals, &self.flags, Needs::Everything)?;
        Err(Failure::failed("`walhook check` is not wired yet"))
    }
}
