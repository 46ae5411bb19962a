//! Capture from a replication slot: connect, check the position, stream, and begin again when the
//! connection is lost.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::postgres::catalog::{self, OwnedRelation, TypeCache};
use crate::postgres::connection::{self, Client, ConnectionOptions};
use crate::postgres::error::{PgError, Stage};
use crate::postgres::lsn::Lsn;
use crate::postgres::replication::{ReplicationClient, ReplicationStream, StartOptions};
use crate::postgres::slot::{self, SlotInfo};

use super::change::{ChangeSink, Source};
use super::error::{CaptureError, Refusal};
use super::position::{self, StartPoint};
use super::progress::Progress;
use super::session::{Place, Session};

/// Between attempts to connect, at most.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// How long an answer from the catalog may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How soon an order to stop is noticed while waiting.
const STOP_NOTICED_EVERY: Duration = Duration::from_millis(50);
/// How long an answer is still waited for then.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// What to follow.
#[derive(Clone, Debug)]
pub struct ReplicationOptions {
    /// Where the database is.
    pub connection: ConnectionOptions,
    /// The slot to read.
    pub slot: String,
    /// The publication that says which tables.
    pub publication: String,
    /// Go on at the slot's position where the stored one doesn't fit, and lose what lies between.
    pub accept_gap: bool,
}

/// Follows the slot until told to stop through `progress`, reconnecting as often as it takes.
///
/// Blocks: it wants a thread of its own, outside of the runtime behind `runtime`, which it uses
/// for catalog queries.
///
/// # Errors
/// A refusal where going on would lose changes, and whatever no second try can change: a wrong
/// password before the first success, a stream that makes no sense, a sink that failed.
pub fn run_replication<S: ChangeSink>(
    options: &ReplicationOptions,
    start: Option<StartPoint>,
    sink: &mut S,
    progress: &Progress,
    runtime: &Handle,
) -> Result<(), CaptureError> {
    let place = Place {
        position: start.as_ref().and_then(|start| start.position),
        resume_lsn: start.as_ref().map_or(Lsn::ZERO, |start| start.resume_lsn),
    };
    let source = start.map(|start| start.source);
    let mut follower = Follower {
        options,
        sink,
        progress,
        runtime,
        place,
        source,
        types: TypeCache::new(&options.slot),
        accept_gap: options.accept_gap,
        got_on: false,
        worked: false,
    };
    let mut delay = Delay::default();
    while !progress.is_stopping() {
        let error = match follower.follow() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        progress.streaming(false);
        if progress.is_stopping() && error.is_connection() {
            break;
        }
        // Once it worked, everything that the connection says is worth another try: a password
        // being rotated, a proxy being moved. Before that it is most likely a mistake.
        let may_pass = error.is_retryable() || (follower.worked && error.is_connection());
        if !may_pass {
            return Err(error);
        }
        if std::mem::take(&mut follower.got_on) {
            delay = Delay::default();
        }
        let wait = delay.next();
        warn!(retry_in_ms = wait.as_millis() as u64, "waiting for {}: {error}", options.connection);
        sleep_unless_stopped(wait, progress);
    }
    Ok(())
}

struct Follower<'a, S: ChangeSink> {
    options: &'a ReplicationOptions,
    sink: &'a mut S,
    progress: &'a Progress,
    runtime: &'a Handle,
    place: Place,
    /// The source as last seen; none before the first connection of a new journal.
    source: Option<Source>,
    /// What the catalog has said of types so far.
    types: TypeCache,
    accept_gap: bool,
    /// Whether the last connection streamed for a while or brought something new. One that only
    /// begins and breaks at the same change again is no reason to try the next at once.
    got_on: bool,
    /// Whether any came as far as streaming.
    worked: bool,
}

impl<S: ChangeSink> Follower<'_, S> {
    /// One connection, from its start to its end.
    fn follow(&mut self) -> Result<(), CaptureError> {
        let options = self.options;
        // Each host has its own limit.
        let client =
            unless_stopped(self.runtime, self.progress, connection::connect(&options.connection))
                .map_err(CaptureError::while_doing("connecting"))?;
        let mut replication = ReplicationClient::connect(&options.connection)
            .map_err(CaptureError::while_doing("connecting for replication"))?;
        let source = self.check_source(&client, &mut replication)?;
        let slot = self.slot(&client)?;
        let new = self.source.is_none();
        if new {
            self.place.resume_lsn = slot.confirmed_flush_lsn.unwrap_or_default();
        }
        let stream = self.start(replication)?;
        self.check_slot(&client)?;
        let Place { position, resume_lsn } = self.place;
        self.sink.connected(&source, position, resume_lsn).map_err(CaptureError::sink)?;
        if new {
            info!(
                slot = options.slot,
                from_lsn = %self.place.resume_lsn,
                "first start on this journal: taking the slot where it stands"
            );
        }
        info!(
            slot = options.slot,
            publication = options.publication,
            from_lsn = %self.place.resume_lsn,
            "streaming from {}", options.connection
        );
        self.source = Some(source);
        self.worked = true;
        self.accept_gap = false;
        self.progress.streaming(true);
        let (began, place) = (Instant::now(), self.place);
        let result = self.stream(client, stream);
        self.got_on = began.elapsed() > LONGEST_DELAY || self.place != place;
        result
    }

    /// Is this the source that the position belongs to, and does its log reach there?
    fn check_source(
        &mut self,
        client: &Client,
        replication: &mut ReplicationClient,
    ) -> Result<Source, CaptureError> {
        const DOING: &str = "asking the server who it is";
        let system = replication.identify_system().map_err(CaptureError::while_doing(DOING))?;
        let info = self.ask(DOING, catalog::server_info(client))?;
        if let Some(known) = &self.source {
            let history = if known.timeline == system.timeline {
                Vec::new()
            } else {
                replication
                    .timeline_history(system.timeline)
                    .map_err(CaptureError::while_doing("reading the timeline history"))?
            };
            let start = StartPoint {
                source: known.clone(),
                position: self.place.position,
                resume_lsn: self.place.resume_lsn,
            };
            match position::check_before_start(&start, &system, info.database_oid, &history) {
                Err(refusal) if self.accept_gap && refusal.can_be_accepted() => {
                    self.accept(&refusal);
                }
                checked => checked?,
            }
        }
        Ok(Source {
            system_identifier: system.system_identifier,
            timeline: system.timeline,
            database: info.database,
            database_oid: info.database_oid,
        })
    }

    /// Forgets the stored position, so that the slot's own becomes the start.
    fn accept(&mut self, refusal: &Refusal) {
        warn!("going on though changes are lost, as asked for: {refusal}");
        self.place = Place::default();
    }

    /// The slot, which must be there and usable; decides the start where a gap was accepted.
    fn slot(&mut self, client: &Client) -> Result<SlotInfo, CaptureError> {
        let name = &self.options.slot;
        let slot = self.ask("looking at the replication slot", slot::slot(client, name))?;
        let Some(slot) = slot else {
            return Err(match &self.source {
                None => CaptureError::not_set_up(name),
                Some(_) => {
                    Refusal::SlotMissing { slot: name.clone(), resume_lsn: self.place.resume_lsn }
                        .into()
                }
            });
        };
        if let Some(why) = unfit(&slot, self.options.connection.database()) {
            return Err(CaptureError::unfit_slot(name, why));
        }
        if slot.is_lost() {
            return Err(Refusal::SlotLost { slot: name.clone() }.into());
        }
        let confirmed_lsn = slot.confirmed_flush_lsn.unwrap_or_default();
        if self.accept_gap && self.source.is_some() {
            match position::check_after_start(self.place.resume_lsn, confirmed_lsn) {
                Err(refusal) if self.place.resume_lsn != Lsn::ZERO => self.accept(&refusal),
                _ => {}
            }
            if self.place.resume_lsn == Lsn::ZERO {
                self.place.resume_lsn = confirmed_lsn;
            }
        }
        Ok(slot)
    }

    fn start(&self, replication: ReplicationClient) -> Result<ReplicationStream, CaptureError> {
        let options = self.options;
        let publications = [options.publication.clone()];
        replication
            .start(
                &options.slot,
                self.place.resume_lsn,
                &publications,
                StartOptions { messages: true },
            )
            .map_err(|error| {
                if error.is_slot_lost() {
                    Refusal::SlotLost { slot: options.slot.clone() }.into()
                } else if error.is_slot_in_use() {
                    CaptureError::while_doing(
                        "the slot is held by another connection (another walhook, or an old one \
                         whose end the server has not noticed yet)",
                    )(error)
                } else {
                    CaptureError::while_doing("starting the replication stream")(error)
                }
            })
    }

    /// Now that nobody else can move the slot, was it moved before?
    fn check_slot(&mut self, client: &Client) -> Result<(), CaptureError> {
        let slot =
            self.ask("looking at the replication slot", slot::slot(client, &self.options.slot))?;
        let confirmed_lsn = slot.and_then(|slot| slot.confirmed_flush_lsn).unwrap_or_default();
        Ok(position::check_after_start(self.place.resume_lsn, confirmed_lsn)?)
    }

    fn stream(&mut self, client: Client, stream: ReplicationStream) -> Result<(), CaptureError> {
        let (runtime, progress) = (self.runtime, self.progress);
        let connection = &self.options.connection;
        let (mut client, types) = (client, &mut self.types);
        let mut resolve = move |relation: &OwnedRelation, row_lsn: Lsn| {
            const DOING: &str = "reading a table's types from the catalog";
            if client.is_closed() {
                client = unless_stopped(runtime, progress, connection::connect(connection))
                    .map_err(CaptureError::while_doing(DOING))?;
            }
            ask(
                runtime,
                progress,
                DOING,
                catalog::resolve_relation(&client, types, relation, row_lsn),
            )
        };
        let session = Session::new(stream, self.sink, &mut self.place, &mut resolve, self.progress);
        session.run().map_err(|error| self.explain(error))
    }

    fn ask<T>(
        &self,
        doing: &'static str,
        question: impl Future<Output = Result<T, PgError>>,
    ) -> Result<T, CaptureError> {
        ask(self.runtime, self.progress, doing, question)
    }

    /// What ended the stream may be the slot or the publication, which no second try brings back.
    fn explain(&self, error: CaptureError) -> CaptureError {
        match error.postgres() {
            Some(postgres) if postgres.is_slot_lost() => {
                Refusal::SlotLost { slot: self.options.slot.clone() }.into()
            }
            Some(postgres) if postgres.is_undefined_object() => {
                let publication = self.options.publication.clone();
                Refusal::PublicationMissing { publication }.into()
            }
            _ => error,
        }
    }
}

/// Why this slot is none that walhook could read from this database.
fn unfit(slot: &SlotInfo, database: &str) -> Option<String> {
    match (slot.plugin.as_deref(), slot.database.as_deref()) {
        (None, _) => Some("is a physical slot".to_owned()),
        (Some(plugin), _) if plugin != "pgoutput" => Some(format!("uses the plugin {plugin:?}")),
        (_, Some(other)) if other != database => Some(format!("belongs to database {other:?}")),
        _ => None,
    }
}

/// Waits for the answer to a question, but not for ever (a lock on the catalog, a peer that is
/// gone): the server hears nothing from us meanwhile.
fn ask<T>(
    runtime: &Handle,
    progress: &Progress,
    doing: &'static str,
    question: impl Future<Output = Result<T, PgError>>,
) -> Result<T, CaptureError> {
    let question = async {
        let answer = tokio::time::timeout(ANSWER_WITHIN, question).await;
        answer.unwrap_or_else(|_| Err(no_answer()))
    };
    unless_stopped(runtime, progress, question).map_err(CaptureError::while_doing(doing))
}

/// Waits for the answer to a question, but not much beyond the order to stop.
fn unless_stopped<T>(
    runtime: &Handle,
    progress: &Progress,
    question: impl Future<Output = Result<T, PgError>>,
) -> Result<T, PgError> {
    let stopped = async {
        while !progress.is_stopping() {
            tokio::time::sleep(STOP_NOTICED_EVERY).await;
        }
        tokio::time::sleep(LAST_CHANCE).await;
    };
    runtime.block_on(async {
        tokio::select! {
            biased;
            answer = question => answer,
            () = stopped => Err(no_answer()),
        }
    })
}

fn no_answer() -> PgError {
    PgError::timed_out("waited long enough", Stage::Command)
}

/// Grows from a quarter of a second to [`LONGEST_DELAY`].
#[derive(Default)]
struct Delay(u32);

impl Delay {
    fn next(&mut self) -> Duration {
        let delay = Duration::from_millis(250 << self.0.min(6)).min(LONGEST_DELAY);
        self.0 += 1;
        delay
    }
}

fn sleep_unless_stopped(wait: Duration, progress: &Progress) {
    let until = Instant::now() + wait;
    while !progress.is_stopping() && Instant::now() < until {
        thread::sleep(STOP_NOTICED_EVERY.min(until.saturating_duration_since(Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_answer_holds_up_no_stop() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let progress = Progress::default();
        progress.stop();
        let started = Instant::now();
        let question = std::future::pending::<Result<(), PgError>>();
        let error = ask(runtime.handle(), &progress, "asking", question).unwrap_err();
        assert!(error.is_connection() && error.is_retryable(), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
        // One that does is heard all the same.
        ask(runtime.handle(), &progress, "asking", async { Ok(()) }).unwrap();
    }
}
