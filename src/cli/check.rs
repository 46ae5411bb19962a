//! `walhook check`: findings, each with its remedy.

mod reach;

use clap::Args;
use serde_json::json;

use crate::config::{Config, Flags, Needs};
use crate::source::{Finding, Severity, check};

use super::{Failure, Globals, report};

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
        let config = super::load(globals, &self.flags, Needs::Tables)?;
        let findings = super::block_on(async { Ok(look(&config).await) })?;
        if self.json {
            super::print(json_of(&findings))?;
        } else {
            let text = report::findings(&findings, super::colour(&std::io::stdout()));
            super::print(format_args!("{text}\n{}\n", report::summary(&findings)))?;
        }
        match findings.iter().any(Finding::is_error) {
            true => Err(Failure::reported()),
            false => Ok(()),
        }
    }
}

async fn look(config: &Config) -> Vec<Finding> {
    let options = config.source.options(&config.tables);
    let (in_database, at_endpoints) = tokio::join!(
        check::run(&config.source.connection, &options),
        reach::endpoints(&config.endpoints)
    );
    let mut findings = vec![Finding::ok(
        "configuration",
        format!(
            "{}, {}",
            report::counted(config.tables.len(), "table"),
            report::counted(config.endpoints.len(), "endpoint")
        ),
    )];
    findings.extend(in_database);
    findings.extend(at_endpoints);
    findings
}

fn json_of(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let errors = count(Severity::Error);
    let report = json!({
        "ready": errors == 0,
        "errors": errors,
        "warnings": count(Severity::Warning),
        "findings": findings,
    });
    format!("{report:#}\n")
}
