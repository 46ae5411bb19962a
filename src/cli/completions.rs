//! `walhook completions`: for shells.

use clap::Args;
use clap_complete::Shell;

use super::Failure;

/// What can be said after `walhook completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script.
    pub(crate) fn run(self, command: &mut clap::Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "walhook", &mut script);
        super::print(String::from_utf8_lossy(&script))
    }
}
