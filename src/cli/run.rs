//! `walhook run`: the daemon.

use clap::Args;

use crate::config::Flags;

use super::{Failure, Globals};

/// What can be said after `walhook run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The configuration on the command line instead of in a file.
    #[command(flatten)]
    pub flags: Flags,
}

impl RunArgs {
    /// Does it.
    pub(crate) fn run(self, globals: &Globals) -> Result<(), Failure> {
        let _config = super::load_to_run(globals, &self.flags)?;
        Err(Failure::failed("`walhook run` is not wired yet"))
    }
}
