//! `walhook check`: findings, each with its remedy.

mod reach;

use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::config::{Config, Flags, Needs};
use crate::journal::Journal;
use crate::source::{Finding, Severity, bytes, check};

use super::{Failure, Globals, report};

/// What can be said after `walhook check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,

    // Last: its heading would stand above what comes after it.
    /// The configuration on the command line instead of in a file.
    #[command(flatten)]
    pub flags: Flags,
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
    findings.push(journal(&config.journal.path));
    findings.extend(in_database);
    findings.extend(at_endpoints);
    findings
}

/// Whether the journal is one, or could be made. Nothing is written to find out.
fn journal(path: &Path) -> Finding {
    const SUBJECT: &str = "journal";
    let shown = path.display();
    if path.exists() {
        return match Journal::open_read_only(path).and_then(|reader| reader.status()) {
            Ok(status) => Finding::ok(SUBJECT, format!("{shown}, {}", bytes(status.size_bytes))),
            Err(error) => Finding::error(SUBJECT, error.to_string()),
        };
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Finding::error(SUBJECT, format!("the folder of {shown} does not exist"))
            .fix("create it for the user who runs walhook, or set another journal.path");
    }
    Finding::ok(SUBJECT, format!("{shown} does not exist yet: `run` creates it"))
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
