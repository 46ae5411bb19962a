//! Carries out single statements under the eyes of a second session.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::advice::shown;
use super::plan::Progress;
use super::{SourceError, Step};
use crate::postgres::error::PgError;
use crate::postgres::slot::{Blocker, blockers};
use crate::postgres::sql::quote_literal;

/// How often the second session looks whom a waiting statement waits for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long one wait for a lock may take: longer than `deadlock_timeout`, so that an autovacuum
/// still gives way, and short for whoever waits behind.
const LOCK_TRY: Duration = Duration::from_secs(2);
/// Between two such waits.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// What the creation of a slot on a standby waits for. A busy primary writes one every now and then.
const SNAPSHOT: &str = "the primary to log a snapshot of its transactions, which an idle one does \
                        not do by itself (SELECT pg_log_standby_snapshot(); there)";

/// The sessions that carry out statements, and until when they may wait.
pub(super) struct Runner<'a> {
    pub(super) client: &'a Client,
    /// Sees what `client` waits for, and ends the wait.
    pub(super) watcher: &'a Client,
    pub(super) wait: Duration,
    pub(super) deadline: Instant,
}

impl<'a> Runner<'a> {
    pub(super) fn new(client: &'a Client, watcher: &'a Client, wait: Duration) -> Runner<'a> {
        Runner { client, watcher, wait, deadline: Instant::now() + wait }
    }

    /// Runs one step. Creating a slot waits for every transaction that was writing before it, and a
    /// publication for locks on its tables; whom it waits for is reported, and at the deadline the
    /// statement is cancelled. `lock_timeout` bounds each wait by itself, should walhook die
    /// meanwhile: `statement_timeout` does not end these waits. For locks it waits in short tries:
    /// what it holds already, and its place in a queue, may hold up others.
    pub(super) async fn run(
        &self,
        step: &Step,
        report: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), SourceError> {
        let pid = backend_pid(self.client).await?;
        // To begin anew would make a slot wait for ever newer transactions.
        let attempt = if step.creates_slot() { self.wait } else { LOCK_TRY.min(self.wait) };
        let before = lock_timeout(self.client).await?;
        let timeout_ms = attempt.as_millis().clamp(1, 1_000_000_000);
        self.plain(&format!("SET lock_timeout = {timeout_ms}"), "could not limit the wait").await?;
        let mut whom = None;
        let result = loop {
            let result = self.watched(step, pid, &mut whom, report).await;
            if result.is_err() {
                // of a step that is a transaction; else the server only warns that there is none
                let _ = self.client.batch_execute("ROLLBACK").await;
            }
            match result {
                Err(error) if error.is_timed_out() && Instant::now() < self.deadline => {
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                result => break result,
            }
        };
        // the client may be used for something else afterwards; a lost connection already shows
        // in `result`
        let restore = format!("SET lock_timeout = {}", quote_literal(&before));
        let reset = self.plain(&restore, "could not lift the limit of the wait").await;
        result?;
        Ok(reset?)
    }

    async fn watched(
        &self,
        step: &Step,
        pid: i32,
        whom: &mut Option<String>,
        report: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), SourceError> {
        let statement = self.client.batch_execute(&step.sql);
        tokio::pin!(statement);
        let mut cancelled = false;
        let result = loop {
            tokio::select! {
                result = &mut statement => break result,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = match describe(&blockers(self.watcher, pid).await?) {
                None if step.creates_slot() && in_recovery(self.watcher).await? => {
                    Some(SNAPSHOT.to_owned())
                }
                whom => whom,
            };
            if let Some(now) = now
                && whom.as_ref() != Some(&now)
            {
                report(Progress::Waiting(format!("{} is waiting for {now}", step.what())));
                *whom = Some(now);
            }
            if Instant::now() >= self.deadline && !cancelled {
                cancel(self.watcher, pid).await?;
                cancelled = true;
            }
        };
        let Err(error) = result else { return Ok(()) };
        let error = PgError::query(format!("{} failed", step.what()), error);
        match error.sqlstate() {
            // lock_timeout, or our own cancellation
            Some("55P03" | "57014") => {
                Err(SourceError::waited(&step.what(), whom.clone(), self.wait))
            }
            _ => Err(error.into()),
        }
    }

    async fn plain(&self, sql: &str, context: &str) -> Result<(), PgError> {
        self.client.batch_execute(sql).await.map_err(|error| PgError::query(context, error))
    }
}

async fn backend_pid(client: &Client) -> Result<i32, PgError> {
    let row = client
        .query_typed_one("select pg_backend_pid() as pid", &[])
        .await
        .map_err(|error| PgError::query("could not ask for the session's process", error))?;
    Ok(row.try_get("pid")?)
}

async fn lock_timeout(client: &Client) -> Result<String, PgError> {
    let row = client
        .query_typed_one("select current_setting('lock_timeout')", &[])
        .await
        .map_err(|error| PgError::query("could not ask for the limit of waits", error))?;
    Ok(row.try_get(0)?)
}

async fn in_recovery(watcher: &Client) -> Result<bool, PgError> {
    let row = watcher
        .query_typed_one("select pg_is_in_recovery()", &[])
        .await
        .map_err(|error| PgError::query("could not ask whether this is a standby", error))?;
    Ok(row.try_get(0)?)
}

async fn cancel(watcher: &Client, pid: i32) -> Result<(), PgError> {
    watcher
        .query_typed("select pg_cancel_backend($1)", &[(&pid, Type::INT4)])
        .await
        .map(drop)
        .map_err(|error| PgError::query("could not cancel a statement", error))
}

/// The oldest of those waited for, in words; none when nobody is.
fn describe(blockers: &[Blocker]) -> Option<String> {
    let oldest = blockers.iter().max_by_key(|blocker| blocker.open_for)?;
    if let Some(prepared) = &oldest.prepared {
        return Some(format!(
            "the prepared transaction {} (COMMIT PREPARED or ROLLBACK PREPARED ends it)",
            shown(prepared)
        ));
    }
    let mut known: Vec<String> = Vec::new();
    known.extend(oldest.application.as_ref().map(|name| name.escape_debug().to_string()));
    known.extend(oldest.role.as_ref().map(|role| format!("role {}", shown(role))));
    known.extend(oldest.state.clone());
    let details = if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) };
    let others = match blockers.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Some(format!("the open transaction of process {}{details}{others}", oldest.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_waited_for_is_named() {
        let mut blocker = Blocker {
            pid: 4711,
            role: Some("app".to_owned()),
            application: Some("psql".to_owned()),
            state: Some("idle in transaction".to_owned()),
            open_for: Some(Duration::from_secs(5)),
            prepared: None,
        };
        assert_eq!(
            describe(&[blocker.clone()]).unwrap(),
            "the open transaction of process 4711 (psql, role app, idle in transaction)"
        );
        blocker.prepared = Some("gid".to_owned());
        assert!(describe(&[blocker]).unwrap().starts_with("the prepared transaction gid"));
        assert_eq!(describe(&[]), None);
    }
}
