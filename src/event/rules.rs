//! From a change to its event.

mod error;
mod recorded;
mod row;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

pub use error::RuleError;
use recorded::Shapes;
pub use table::{Case, Columns, TableRule};

use super::batch::{EventBatch, Lanes};
use super::columns::{Notice, Shown, Told};
use super::envelope::{self, Source, TransactionParts};
use super::lanes::LaneHash;
use super::message::CustomEvent;
use super::names::record_of;
use super::plan::{Plan, Plans, Verb};
use super::render::RenderOptions;
use crate::capture::change::{Change, Position, Transaction};
use crate::postgres::pattern::choose;
use crate::postgres::pgoutput::{OldTuple, TupleData};
use crate::postgres::relation::Relation;

/// Bytes of an envelope besides its columns and table: an estimate to reserve by.
const FRAME_BYTES: usize = 256;

/// What [`EventRules`] are made of.
#[derive(Clone, Debug)]
pub struct RulesOptions {
    /// The cluster's identity, part of every event's.
    pub system_identifier: u64,
    /// The database's oid, part of every event's identity.
    pub database_oid: u32,
    /// The database's name, as `source.database` tells it.
    pub database: String,
    /// How changes are captured, as `source.capture` tells it. Part of every event's identity.
    pub capture: &'static str,
    /// The tables; changes of others make no event. For a table with several rules, the one with
    /// its exact name counts, else the first.
    pub tables: Vec<TableRule>,
    /// Whether bigint is rendered as a string.
    pub int8_as_string: bool,
    /// Whether U+FFFD stands for bytes that are not UTF-8, instead of an error.
    pub replace_invalid_utf8: bool,
    /// The prefix of the logical messages that are events.
    pub message_prefix: String,
}

/// Turns changes into events. Holds what it worked out about the tables and the transaction seen
/// last; two instances with the same options make the same events, byte for byte.
#[derive(Debug)]
pub struct EventRules {
    tables: Vec<TableRule>,
    message_prefix: String,
    message_source: Vec<u8>,
    source: Source,
    options: RenderOptions,
    plans: Plans,
    shapes: Shapes,
    notices: Notices,
    transaction: Option<TransactionParts>,
    malformed_messages: u64,
}

impl EventRules {
    /// Rules made of these options.
    pub fn new(options: RulesOptions) -> EventRules {
        let RulesOptions { system_identifier, database_oid, database, capture, .. } = &options;
        let source = Source::new(*system_identifier, *database_oid, database, capture);
        EventRules {
            message_source: source.of_messages(),
            source,
            tables: options.tables,
            message_prefix: options.message_prefix,
            options: RenderOptions {
                int8_as_string: options.int8_as_string,
                replace_invalid_utf8: options.replace_invalid_utf8,
            },
            plans: Plans::default(),
            shapes: Shapes::default(),
            notices: Notices::default(),
            transaction: None,
            malformed_messages: 0,
        }
    }

    /// Puts these rules in the place of all others, from the next change on.
    pub fn set_tables(&mut self, tables: Vec<TableRule>) {
        self.tables = tables;
        self.plans = Plans::default();
    }

    /// Appends a change's event, if it makes one: a change of a table no rule names, or a message
    /// with another prefix or with malformed content, doesn't.
    ///
    /// # Errors
    ///
    /// When a value is not UTF-8 (a database of the encoding SQL_ASCII) and nothing is to replace
    /// it, a row has not as many columns as its table, or what was recorded is no row. Then nothing
    /// was appended, and the same change will fail again.
    pub fn apply(
        &mut self,
        transaction: &Transaction,
        position: Position,
        change: &Change<'_>,
        batch: &mut EventBatch,
    ) -> Result<(), RuleError> {
        let relation = match *change {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. }
            | Change::Truncate { relation } => relation,
            Change::Recorded(ref recorded) => {
                return self.recorded(transaction, position, recorded, batch);
            }
            Change::Message { prefix, content } => {
                if prefix == self.message_prefix.as_bytes() {
                    self.message(transaction, position, content, batch);
                }
                return Ok(());
            }
        };
        let Some(event) = self.row(relation, transaction, position) else { return Ok(()) };
        match *change {
            Change::Insert { new, .. } => event.created(new, batch),
            Change::Update { old, new, .. } => event.updated(old, new, batch),
            Change::Delete { old, .. } => event.deleted(old, batch),
            _ => event.truncated(batch),
        }
    }

    /// An event to be of a table's row, if a rule names the table.
    fn row<'a>(
        &'a mut self,
        relation: &Arc<Relation>,
        transaction: &'a Transaction,
        position: Position,
    ) -> Option<Row<'a>> {
        let (tables, source, notices) = (&self.tables, &self.source, &mut self.notices);
        let plan = self.plans.of(relation, |relation| plan(tables, source, relation, notices))?;
        let parts = current(&mut self.transaction, source, transaction);
        Some(Row { plan, source, parts, options: self.options, transaction, position })
    }

    /// How many messages with walhook's prefix were left out because of their content.
    pub fn malformed_messages(&self) -> u64 {
        self.malformed_messages
    }

    fn message(
        &mut self,
        transaction: &Transaction,
        position: Position,
        content: &[u8],
        batch: &mut EventBatch,
    ) {
        let event = match CustomEvent::parse(content) {
            Ok(event) => event,
            Err(error) => {
                self.malformed_messages += 1;
                // Not each one: an application that does it wrong does it often.
                if self.malformed_messages.is_power_of_two() {
                    tracing::warn!(
                        position = %transaction.row_lsn,
                        malformed_messages = self.malformed_messages,
                        "a logical message with the prefix {:?} makes no event: {error}",
                        self.message_prefix,
                    );
                }
                return;
            }
        };
        let parts = current(&mut self.transaction, &self.source, transaction);
        let id = parts.id(position);
        // One key is one order, whatever the events are named.
        let prefix = LaneHash::of(&[b"", self.message_prefix.as_bytes()]);
        let lanes = match &event.key {
            Some(key) => Lanes::one(prefix.with(key.as_bytes()).lane()),
            None => Lanes::NONE,
        };
        let (source, head) = (&self.source, &self.message_source);
        let written: Result<(), std::convert::Infallible> =
            batch.push(id, Arc::from(&*event.name), lanes, transaction.committed_at_us, |out| {
                parts.write_head(out, id, &envelope::naming(&event.name));
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(event.data.unwrap_or("{}").as_bytes());
                out.push(b',');
                source.write(out, head, transaction.row_lsn, parts, position);
                Ok(())
            });
        let Ok(()) = written;
    }
}

fn plan(
    tables: &[TableRule],
    source: &Source,
    relation: &Arc<Relation>,
    notices: &mut Notices,
) -> Option<Plan> {
    let rule = choose(tables, |rule| &rule.pattern, &relation.schema, &relation.name)?;
    let shown = match source.is_recorded() {
        true => Shown::Recorded,
        false => Shown::Published,
    };
    let told = Told::new(rule, relation, shown);
    for notice in &told.notices {
        notices.say(notice);
    }
    let record = match &rule.record {
        Some(record) => record.into(),
        None => record_of(&relation.name),
    };
    Some(Plan::new(relation.clone(), &record, told, source))
}

/// What was said in the log about tables and their rules. Their plans are made again whenever the
/// server describes a table again, which is no reason to repeat it.
#[derive(Debug, Default)]
struct Notices {
    said: HashSet<String>,
}

impl Notices {
    /// Repeating a sentence costs less than remembering without end.
    const MOST: usize = 10_000;

    fn say(&mut self, notice: &Notice) {
        if self.said.contains(&notice.sentence) {
            return;
        }
        if self.said.len() >= Notices::MOST {
            self.said.clear();
        }
        self.said.insert(notice.sentence.clone());
        if notice.is_expected {
            tracing::debug!("{}", notice.sentence);
        } else {
            tracing::warn!("{}", notice.sentence);
        }
    }
}

/// The transaction's parts, made anew when another begins.
fn current<'a>(
    parts: &'a mut Option<TransactionParts>,
    source: &Source,
    transaction: &Transaction,
) -> &'a TransactionParts {
    if parts.as_ref().is_some_and(|parts| !parts.fit(transaction)) {
        *parts = None;
    }
    parts.get_or_insert_with(|| TransactionParts::new(source, transaction))
}

/// A row change about to become an event.
struct Row<'a> {
    plan: &'a Plan,
    source: &'a Source,
    parts: &'a TransactionParts,
    options: RenderOptions,
    transaction: &'a Transaction,
    position: Position,
}

impl Row<'_> {
    fn created(&self, new: TupleData<'_>, batch: &mut EventBatch) -> Result<(), RuleError> {
        self.check(new)?;
        let lanes = self.plan.lane(new, None).map_or(Lanes::NONE, Lanes::one);
        self.push(batch, Verb::Created, lanes, new.bytes(), |out| {
            self.row(out, new.iter().enumerate())?;
            self.unchanged(out, new.iter())
        })
    }

    fn updated(
        &self,
        old: Option<OldTuple<'_>>,
        new: TupleData<'_>,
        batch: &mut EventBatch,
    ) -> Result<(), RuleError> {
        self.check(new)?;
        if let Some(old) = old {
            self.check(old.tuple())?;
        }
        let old_tuple = old.map(|old| old.tuple());
        let lane = self.plan.lane(new, old_tuple);
        let old_lane = old_tuple.and_then(|old| self.plan.lane(old, None));
        let lanes = match (old_lane, lane) {
            (Some(old), Some(new)) => Lanes::two(old, new),
            (None, Some(new)) => Lanes::one(new),
            _ => Lanes::NONE,
        };
        let verb = self.plan.verb_of_update(old, new);
        self.push(batch, verb, lanes, new.bytes(), |out| match old {
            None => {
                self.row(out, new.iter().enumerate())?;
                self.unchanged(out, new.iter())
            }
            Some(old) => self.both_rows(out, old, new),
        })
    }

    fn deleted(&self, old: OldTuple<'_>, batch: &mut EventBatch) -> Result<(), RuleError> {
        self.check(old.tuple())?;
        let lanes = self.plan.lane(old.tuple(), None).map_or(Lanes::NONE, Lanes::one);
        self.push(batch, Verb::Deleted, lanes, old.tuple().bytes(), |out| {
            let known = self.known(old);
            self.row(out, known.enumerate().filter_map(|(column, old)| Some((column, old?))))
        })
    }

    fn truncated(&self, batch: &mut EventBatch) -> Result<(), RuleError> {
        // Rows of the table lie on lanes of their own: only a barrier comes after all of them.
        self.push(batch, Verb::Truncated, Lanes::BARRIER, 0, |out| {
            out.extend_from_slice(b"{}");
            Ok(())
        })
    }
}
