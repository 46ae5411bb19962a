//! Capture from a replication slot: connect, check the position, stream, and begin again when the
//! connection is lost.

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tracing::{error, info, warn};

use crate::postgres::catalog::{self, OLDEST_VERSION_NUM, OwnedRelation, TypeCache};
use crate::postgres::connection::{self, Client, ConnectionOptions};
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;
use crate::postgres::replication::{
    POSTMASTER_START_TIME, ReplicationClient, ReplicationStream, StartOptions,
};
use crate::postgres::slot::{self, SlotInfo};

use super::change::{ChangeSink, Source};
use super::error::{CaptureError, LeaveOut, Refusal};
use super::filter::{FilterServer, RowFilters, Sieve};
use super::position::{self, Fit, StartPoint};
use super::progress::Progress;
use super::session::{Place, Session};
use super::timeline::TimelineWatch;
use super::wait::{Delay, LONGEST_DELAY, Stuck, ask, settle, sleep_unless_stopped, unless_stopped};

/// Which changes are yielded, by where they come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// All.
    #[default]
    Any,
    /// Only those that were made on this server: not what logical replication, or whoever else
    /// works under a replication origin (`pg_replication_origin_session_setup`), brought from
    /// another. So two systems that follow each other do not send a change back and forth.
    ///
    /// The server leaves them out from version 16 on, record by record. Before, capture leaves out
    /// the transactions that were committed under an origin, and cannot tell the origin of messages
    /// outside of transactions, which are yielded.
    None,
}

/// What to follow.
#[derive(Clone, Debug)]
pub struct ReplicationOptions {
    /// Where the database is.
    pub connection: ConnectionOptions,
    /// The slot to read.
    pub slot: String,
    /// The publication that says which tables.
    pub publication: String,
    /// Which rows of the tables.
    pub filters: Arc<RowFilters>,
    /// Which changes, by where they come from.
    pub origin: Origin,
    /// Go on at the slot's position where the stored one doesn't fit, and lose what lies between.
    pub accept_gap: bool,
}

/// Follows the slot until told to stop through `progress`, reconnecting as often as it takes.
///
/// Text comes in UTF-8, but for the values of a database of the encoding SQL_ASCII, which are
/// yielded as they are; in its names, U+FFFD takes the place of what is not UTF-8.
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
        accepted: None,
        raw: false,
        got_on: false,
        worked: false,
    };
    let result = follower.follow_on();
    // What was taken before the end must not depend on whether the stream goes on from there.
    settle(sink);
    result
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
    /// What is lost where a gap was accepted, until the sink knows.
    accepted: Option<String>,
    /// Whether text comes in whatever bytes the database holds.
    raw: bool,
    /// Whether the last connection streamed for a while or brought something new. One that only
    /// begins and breaks at the same change again is no reason to try the next at once.
    got_on: bool,
    /// Whether any came as far as streaming.
    worked: bool,
}

/// What the server says it is.
struct Server {
    source: Source,
    /// Whether it is a standby.
    in_recovery: bool,
}

impl<S: ChangeSink> Follower<'_, S> {
    /// One connection after the other, until told to stop.
    fn follow_on(&mut self) -> Result<(), CaptureError> {
        let mut delay = Delay::default();
        let mut stuck = Stuck::default();
        while !self.progress.is_stopping() {
            let Err(error) = self.follow() else { return Ok(()) };
            self.progress.streaming(false);
            if self.progress.is_stopping() && error.is_connection() {
                break;
            }
            // Once it worked, everything that the connection says is worth another try: a password
            // being rotated, a proxy being moved. Before that it is most likely a mistake.
            let may_pass = error.is_retryable() || (self.worked && error.is_connection());
            if !may_pass {
                return Err(error);
            }
            if std::mem::take(&mut self.got_on) {
                delay = Delay::default();
            }
            let wait = delay.next();
            let retry_in_ms = wait.as_millis() as u64;
            match stuck.times(&error) {
                Some((times, commit_lsn)) if times > 1 => {
                    let leave_out = LeaveOut { slot: self.options.slot.clone(), commit_lsn };
                    error!(
                        retry_in_ms,
                        times,
                        "the stream does not get past one transaction: {error}; nothing is lost as \
                         long as the server keeps its log: mend the cause there, or, {leave_out}"
                    );
                }
                _ => warn!(retry_in_ms, "waiting for {}: {error}", self.options.connection),
            }
            sleep_unless_stopped(wait, self.progress);
        }
        Ok(())
    }

    /// One connection, from its start to its end.
    fn follow(&mut self) -> Result<(), CaptureError> {
        let options = self.options;
        // Each host has its own limit.
        let client =
            unless_stopped(self.runtime, self.progress, connection::connect(&options.connection))
                .map_err(CaptureError::while_doing("connecting"))?;
        let mut replication = self.connect_to_the_same(&client)?;
        let Server { source, in_recovery } = self.check_source(&client, &mut replication)?;
        let slot = self.slot(&client, in_recovery)?;
        let watch = match in_recovery {
            true => Some(self.connect_to_the_same(&client)?),
            false => None,
        };
        let new = self.source.is_none();
        if new {
            self.place.resume_lsn = slot.confirmed_flush_lsn.unwrap_or_default();
        }
        let stream = self.start(replication)?;
        match self.check_slot(&client) {
            // Nothing was taken yet, so nothing is missing between the two looks.
            Err(error) if new && error.is_refusal() => {
                return Err(CaptureError::not_yet(
                    "whoever had the slot before moved it once more; looking again",
                ));
            }
            checked => checked?,
        }
        let Place { position, resume_lsn } = self.place;
        if let Some(why) = self.accepted.take() {
            self.sink.gap_accepted(&why);
        }
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
        let watch = watch
            .map(|watch| TimelineWatch::start(watch, source.timeline))
            .transpose()
            .map_err(|error| CaptureError::not_yet(format!("no thread for a look: {error}")))?;
        self.source = Some(source);
        self.worked = true;
        self.accept_gap = false;
        self.progress.streaming(true);
        let (began, place) = (Instant::now(), self.place);
        let result = self.stream(client, stream, watch.as_ref());
        self.got_on = began.elapsed() > LONGEST_DELAY || self.place != place;
        match watch {
            Some(watch) => self.moved_to(watch.finish()).and(result),
            None => result,
        }
    }

    /// A replication connection to the server that `client` is connected to: where the connection
    /// string names several hosts, one may have failed in between.
    fn connect_to_the_same(&self, client: &Client) -> Result<ReplicationClient, CaptureError> {
        const DOING: &str = "asking the server when it was started";
        let mut replication = ReplicationClient::connect(&self.options.connection)
            .map_err(CaptureError::while_doing("connecting for replication"))?;
        let version_num = replication.server_version_num();
        if (1..OLDEST_VERSION_NUM).contains(&version_num) {
            return Err(CaptureError::too_old(version_num));
        }
        let one = self.ask(DOING, async {
            let row = client.query_typed_one(POSTMASTER_START_TIME, &[]).await;
            let row = row.map_err(|error| PgError::query("it did not say", error))?;
            Ok(row.try_get::<_, String>(0)?)
        })?;
        let other =
            replication.postmaster_start_time().map_err(CaptureError::while_doing(DOING))?;
        if one == other {
            return Ok(replication);
        }
        Err(CaptureError::not_yet(
            "two connections in a row came to different servers; trying again until they come to \
             the same one",
        ))
    }

    /// The stream went on over a change of the server's timeline.
    fn moved_to(&mut self, timeline: u32) -> Result<(), CaptureError> {
        let Some(source) = self.source.as_mut().filter(|source| source.timeline != timeline) else {
            return Ok(());
        };
        let old = std::mem::replace(&mut source.timeline, timeline);
        info!("the stream went on from timeline {old} to {timeline}");
        let Place { position, resume_lsn } = self.place;
        self.sink.connected(source, position, resume_lsn).map_err(CaptureError::sink)
    }

    /// Is this the source that the position belongs to, and does its log reach there?
    fn check_source(
        &mut self,
        client: &Client,
        replication: &mut ReplicationClient,
    ) -> Result<Server, CaptureError> {
        const DOING: &str = "asking the server who it is";
        let system = replication.identify_system().map_err(CaptureError::while_doing(DOING))?;
        let info = self.ask(DOING, catalog::server_info(client))?;
        self.raw = info.encoding == "SQL_ASCII";
        if self.raw {
            // As UTF-8, the server would end the stream at the first value that is none, without a
            // word about where it is.
            replication.take_raw_text().map_err(CaptureError::while_doing(DOING))?;
        }
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
            let fit = position::check_before_start(
                &start,
                &system,
                info.database_oid,
                info.in_recovery,
                &history,
            );
            match fit {
                Err(refusal) if self.accept_gap && refusal.can_be_accepted() => {
                    self.accept(&refusal);
                }
                Err(refusal) => return Err(refusal.into()),
                Ok(Fit::Here) => {}
                Ok(Fit::Earlier(switch_lsn)) => {
                    info!(
                        from_lsn = %switch_lsn,
                        "timeline {} begins before the stored position {}, and nothing was sent \
                         of what lies between: going on where it begins",
                        system.timeline,
                        self.place.resume_lsn
                    );
                    self.place.resume_lsn = switch_lsn;
                }
                Ok(Fit::NotYet) => {
                    return Err(CaptureError::not_yet(format!(
                        "this standby has come to {} on timeline {}, and not yet to the stored \
                         position {} on timeline {}",
                        system.xlogpos, system.timeline, self.place.resume_lsn, known.timeline
                    )));
                }
            }
        }
        let source = Source {
            system_identifier: system.system_identifier,
            timeline: system.timeline,
            database: info.database,
            database_oid: info.database_oid,
        };
        Ok(Server { source, in_recovery: info.in_recovery })
    }

    /// Forgets the stored position, so that the slot's own becomes the start.
    fn accept(&mut self, refusal: &Refusal) {
        let loss = refusal.loss();
        warn!("going on though changes are lost, as asked for: {loss}");
        self.accepted = Some(loss);
        self.place = Place::default();
    }

    /// The slot, which must be there and usable; decides the start where a gap was accepted.
    fn slot(&mut self, client: &Client, in_recovery: bool) -> Result<SlotInfo, CaptureError> {
        let name = &self.options.slot;
        let slot = self.ask("looking at the replication slot", slot::slot(client, name))?;
        let Some(slot) = slot else {
            return Err(match &self.source {
                Some(_) if in_recovery => CaptureError::not_yet(format!(
                    "this is a standby without the replication slot {name:?}; going on when the \
                     primary is back, or when the slot is here (with several hosts in source.url, \
                     target_session_attrs=read-write passes standbys over)"
                )),
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
        if slot.synced && in_recovery {
            return Err(CaptureError::not_yet(format!(
                "this is a standby, with a copy of the primary's replication slot {name:?}, which \
                 can be read when the standby is promoted"
            )));
        }
        if slot.is_lost() {
            let reason = slot.invalidation_reason;
            return Err(Refusal::SlotLost { slot: name.clone(), reason }.into());
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
                StartOptions { messages: true, local_only: options.origin == Origin::None },
            )
            .map_err(|error| {
                if error.is_slot_lost() {
                    Refusal::SlotLost { slot: options.slot.clone(), reason: None }.into()
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

    fn stream(
        &mut self,
        client: Client,
        stream: ReplicationStream,
        watch: Option<&TimelineWatch>,
    ) -> Result<(), CaptureError> {
        let (runtime, progress) = (self.runtime, self.progress);
        let connection = &self.options.connection;
        let server = FilterServer::new(runtime, progress, connection, self.raw);
        let sieve = Sieve::new(&self.options.filters, server);
        let sift = (sieve, self.options.origin);
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
        let mut session =
            Session::new(stream, self.sink, &mut self.place, &mut resolve, sift, progress);
        session.watch = watch;
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
                Refusal::SlotLost { slot: self.options.slot.clone(), reason: None }.into()
            }
            Some(postgres) if postgres.is_publication_missing() => {
                let publication = self.options.publication.clone();
                Refusal::PublicationMissing { publication }.into()
            }
            Some(postgres) if postgres.is_untranslatable_change() => {
                let commit_lsn = error.failed_at().map(|(lsn, _)| lsn);
                let slot = &self.options.slot;
                Refusal::Untranslatable {
                    leave_out: commit_lsn
                        .map(|commit_lsn| LeaveOut { slot: slot.clone(), commit_lsn }),
                    row_lsn: postgres.associated_lsn(),
                    said: postgres.to_string(),
                }
                .into()
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
