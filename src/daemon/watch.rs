//! Keeps the publication, or the outbox's triggers, fit for the configuration while the daemon runs, and says what somebody
//! else did to it. It has connections of its own and never holds up the stream: whatever fails
//! here is said and tried again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::capture::{CaptureKind, Progress as CaptureProgress};
use crate::config::{Config, SourceConfig};
use crate::postgres::Client;
use crate::postgres::connection::connect;
use crate::postgres::error::PgError;
use crate::source::watch::{Look, TableName, Watch, carry_out};
use crate::source::{Finding, Progress, SourceError, SourceOptions, Step};

use super::lag::LagWatch;
use super::prepare::shown;
use super::reload::Fixed;
use super::tables::Tables;

/// A new configuration, whenever there is one.
pub type Reload = watch::Receiver<Option<Arc<Config>>>;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A look may take this part of the time at most.
const SHARE: u32 = 50;
/// How long a change of the publication may wait for locks before it is put off.
const WAIT: Duration = Duration::from_secs(10);
/// How long a change that failed is put off: what waits for a lock may hold others meanwhile.
const PUT_OFF: Duration = Duration::from_secs(60);
/// A look waits no longer for whoever holds a lock on a table; `pg_get_expr` takes one.
const LOCK_LIMIT: &str = "set lock_timeout = '2s'";
/// Between two looks, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often it is asked whether capture has the slot, as long as something is to be done then.
const STREAMING_ASKED_EVERY: Duration = Duration::from_millis(50);
/// Between attempts while the server cannot be reached.
const RETRY_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Watcher {
    source: SourceConfig,
    tables: Arc<Tables>,
    capture: Arc<CaptureProgress>,
    fixed: Fixed,
    watch: Watch,
    /// Whether the publication is to be made fit, other than looked at.
    align: bool,
    /// What is wrong and was said, by its words.
    said: BTreeSet<String>,
    /// The failure of a change that was said.
    failed: Option<String>,
    /// Until when changes are put off, since one failed.
    put_off: Option<Instant>,
}

impl Watcher {
    pub(super) fn new(
        source: SourceConfig,
        tables: Arc<Tables>,
        fixed: Fixed,
        capture: Arc<CaptureProgress>,
    ) -> Watcher {
        Watcher {
            source,
            tables,
            capture,
            fixed,
            watch: Watch::default(),
            align: true,
            said: BTreeSet::new(),
            failed: None,
            put_off: None,
        }
    }

    /// Runs until it is dropped, and lets `lag` look over the same connection.
    pub(super) async fn run(mut self, mut reload: Option<Reload>, mut lag: LagWatch) {
        loop {
            let reloaded = tokio::select! {
                reloaded = next(&mut reload) => reloaded,
                () = self.follow(&mut lag) => continue,
            };
            self.take_over(&reloaded);
        }
    }

    /// The tables' rules and filters come first: what the publication sends more is left out, what
    /// it sends less is only as old as the change.
    fn take_over(&mut self, config: &Config) {
        let fixed = Fixed::of(config);
        let differences = self.fixed.differences(&fixed);
        if !differences.is_empty() {
            warn!("of the new configuration this takes a restart: {}", differences.join(", "));
        }
        self.fixed = fixed;
        if self.tables.replace(config.tables.clone()) {
            info!(tables = config.tables.len(), "the tables of the new configuration are in force");
        } else {
            info!("the new configuration has the same tables");
        }
        self.align = true;
        self.failed = None;
        self.put_off = None;
    }

    async fn follow(&mut self, lag: &mut LagWatch) {
        loop {
            if let Err(error) = self.session(lag).await {
                // Capture says itself that it waits for the server.
                if error.is_retryable() {
                    debug!("the {} cannot be looked at now: {error}", self.what());
                } else {
                    self.say_failure(&error);
                }
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn session(&mut self, lag: &mut LagWatch) -> Result<(), SourceError> {
        let client = connect(&self.source.connection).await?;
        let limit = client.batch_execute(LOCK_LIMIT).await;
        limit.map_err(|error| PgError::query("could not limit waits for locks", error))?;
        loop {
            lag.look_if_due(&client).await?;
            let took = self.once(&client).await?;
            let wait = tokio::time::sleep(LOOK_EVERY.max(took * SHARE).min(LONGEST_PAUSE));
            tokio::select! {
                () = wait => {}
                error = lag.follow(&client) => return Err(error.into()),
                // what was put off until now
                () = self.streaming(), if self.align => {}
            }
        }
    }

    /// Waits until capture has the slot.
    async fn streaming(&self) {
        loop {
            tokio::time::sleep(STREAMING_ASKED_EVERY).await;
            if self.may_change() {
                return;
            }
        }
    }

    /// Only the daemon that has the slot changes the publication: one that waits for another to
    /// leave, perhaps with an older configuration, must not take that one's rows away.
    fn may_change(&self) -> bool {
        self.capture.is_streaming() && self.put_off.is_none_or(|until| Instant::now() >= until)
    }

    /// Says how long looking took, without what a change of the publication waited for.
    async fn once(&mut self, client: &Client) -> Result<Duration, SourceError> {
        let options = self.source.options(&self.tables.configured());
        let begun = Instant::now();
        let mut number = self.tables.filters().look();
        let mut look = self.watch.look(client, &options, self.align).await?;
        let took = begun.elapsed();
        if !look.steps.is_empty() && !self.may_change() {
            debug!("a change of the {} is put off", self.what());
        } else if !look.steps.is_empty() {
            let changed = self.change(client, std::mem::take(&mut look.steps), &look.new).await;
            if let Err(error) = changed {
                self.say_failure(&error);
                self.put_off = Some(Instant::now() + PUT_OFF);
            } else {
                self.failed = None;
                self.put_off = None;
                self.align = false;
            }
            let gone = std::mem::take(&mut look.gone);
            number = self.tables.filters().look();
            look = self.watch.look(client, &options, false).await?;
            look.gone.extend(gone);
        } else {
            self.align = false;
            self.failed = None;
        }
        self.tables.filters().applied(number, std::mem::take(&mut look.applied));
        self.say(&options, look);
        Ok(took)
    }

    async fn change(
        &self,
        client: &Client,
        steps: Vec<Step>,
        new: &[TableName],
    ) -> Result<(), SourceError> {
        let second = connect(&self.source.connection).await?;
        let what = self.what();
        let mut report = |progress| match progress {
            Progress::Done(step) => info!(sql = shown(&step), "done: {}", step.reason),
            Progress::Present(_) | Progress::Note(_) => {}
            Progress::Waiting(whom) => warn!("the {what} is not changed yet: {whom}"),
        };
        carry_out(client, &second, steps, WAIT, &mut report).await?;
        for (schema, name) in new {
            let whole = match self.source.capture {
                CaptureKind::Replication => {
                    " (with `whole = true` a table is followed from its first row on)"
                }
                CaptureKind::Outbox => "",
            };
            info!(
                "the new table {schema:?}.{name:?} is followed from now on; rows written before are \
                 no events{whole}"
            );
        }
        Ok(())
    }

    /// What is looked after.
    fn what(&self) -> &'static str {
        match self.source.capture {
            CaptureKind::Replication => "publication",
            CaptureKind::Outbox => "set of triggers",
        }
    }

    fn say_failure(&mut self, error: &SourceError) {
        let problem = error.to_string();
        if self.failed.as_ref() != Some(&problem) {
            warn!("the {} could not be looked after, trying on: {problem}", self.what());
            self.failed = Some(problem);
        }
    }

    /// Says what is new since the last look, and what is healed.
    fn say(&mut self, options: &SourceOptions, look: Look) {
        for ((schema, name), after) in look.gone {
            match after {
                Some((to_schema, to)) if to_schema != schema || to != name => warn!(
                    "the table {schema:?}.{name:?} is now called {to_schema:?}.{to:?}: name that in \
                     the configuration, unless a pattern means it"
                ),
                Some(_) => warn!("the table {schema:?}.{name:?} is not followed any more"),
                None => {
                    let publication = &options.publication;
                    match options.outbox {
                        None => warn!(
                            "the table {schema:?}.{name:?} was dropped (publication {publication:?})"
                        ),
                        Some(_) => warn!("the table {schema:?}.{name:?} was dropped"),
                    }
                }
            }
        }
        let mut now = BTreeSet::new();
        for Finding { subject, sentence, remedy, .. } in look.findings {
            let problem = format!("{subject} {sentence}");
            if !self.said.contains(&problem) {
                warn!(remedy, "{problem}");
            }
            now.insert(problem);
        }
        for healed in self.said.difference(&now) {
            info!("no longer so: {healed}");
        }
        self.said = now;
    }
}

/// The next configuration; never ready where none can come.
async fn next(reload: &mut Option<Reload>) -> Arc<Config> {
    if let Some(reload) = reload {
        while reload.changed().await.is_ok() {
            if let Some(config) = reload.borrow_and_update().clone() {
                return config;
            }
        }
    }
    std::future::pending().await
}
