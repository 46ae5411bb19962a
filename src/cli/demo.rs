//! `walhook demo`: all of it at work on a throwaway database.

use clap::Args;

use super::{Failure, Globals};

/// What can be said after `walhook demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// End by itself after this long, with the summary [default: until Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = super::input::duration)]
    pub duration: Option<std::time::Duration>,
}

impl DemoArgs {
    /// Does it.
    pub(crate) fn run(self, _globals: &Globals) -> Result<(), Failure> {
        Err(Failure::failed("`walhook demo` is not wired yet"))
    }
}
