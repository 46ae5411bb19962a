//! What the commands that look at or prepare the database share.

use std::io::Write as _;
use std::time::Duration;

use crate::postgres::{Client, ConnectionOptions, connect};
use crate::source::{Plan, Progress, SourceError};
use crate::terminal::one_line;

use super::{Failure, report};

/// How long `setup` and `teardown` wait for other sessions.
pub(super) const WAIT: Duration = Duration::from_secs(60);

/// Connects, or says why not.
pub(super) async fn client(connection: &ConnectionOptions) -> Result<Client, Failure> {
    connect(connection).await.map_err(Failure::failed)
}

/// Prints a plan as SQL that could be run by hand.
pub(super) fn print_plan(plan: &Plan) -> Result<(), Failure> {
    let mut text = String::new();
    for present in &plan.present {
        text.push_str(&format!("-- {}\n", one_line(present)));
    }
    if let Some(pending) = &plan.pending {
        text.push_str(&format!("-- waits for {}\n", one_line(pending)));
    }
    for step in &plan.steps {
        text.push_str(&format!("-- {}\n{};\n", one_line(&step.reason), step.sql));
    }
    for note in &plan.notes {
        let remedy = note.remedy.as_ref().map(|remedy| format!(" ({remedy})")).unwrap_or_default();
        let line =
            format!("{}: {} {}{remedy}", note.severity.as_str(), note.subject, note.sentence);
        text.push_str(&format!("-- {}\n", one_line(&line)));
    }
    if text.is_empty() {
        text.push_str("-- nothing to do\n");
    }
    super::print(text)?;
    refuse(&plan.blocked)
}

/// Prints what was done, as it is done.
pub(super) fn print_progress(progress: Progress) {
    let line = match progress {
        Progress::Done(step) => format!("done     {}", step.reason),
        Progress::Present(what) => format!("ok       {what}"),
        Progress::Note(finding) => format!(
            "{:<8} {} {}{}",
            finding.severity.as_str(),
            finding.subject,
            finding.sentence,
            finding.remedy.map(|remedy| format!(" ({remedy})")).unwrap_or_default()
        ),
        Progress::Waiting(whom) => format!("waiting  {whom}"),
    };
    // a reader that closed the pipe does not stop what is being done
    let _ = super::print(format!("{}\n", one_line(&line)));
}

/// The failure behind an error, whose findings are printed one by one.
pub(super) fn failure(error: &SourceError) -> Failure {
    match refuse(error.findings()) {
        Err(failure) => failure,
        Ok(()) => Failure::failed(error),
    }
}

fn refuse(findings: &[crate::source::Finding]) -> Result<(), Failure> {
    if findings.is_empty() {
        return Ok(());
    }
    let colour = super::colour(&std::io::stderr());
    let _ = write!(std::io::stderr(), "{}", report::findings(findings, colour));
    Err(Failure::failed("nothing was done, since the above stands in the way"))
}
