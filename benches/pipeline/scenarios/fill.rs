//! Journals that are full before the daemon starts: written by walhook's own journal, since the way
//! through Postgres would take minutes.

use std::io::{self, Write as _};
use std::sync::Arc;

use walhook::capture::Position;
use walhook::event::id::TransactionTag;
use walhook::event::{EventBatch, EventId, Lanes};
use walhook::journal::{Append, Checkpoint, JournalOptions};
use walhook::postgres::lsn::Lsn;

use super::*;

const AT_ONCE: usize = 1_000;

impl Bench {
    /// A new slot, and the journal for it with `events` events that came before. The daemon takes
    /// it for that of a database it has yet to see, and goes on behind them.
    pub(super) async fn filled(&mut self, events: usize) -> Result<String, Box<dyn Error>> {
        let slot = self.new_slot().await?;
        let sql = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1";
        let resume: String = self.client.query_one(sql, &[&slot]).await?.get(0);
        fill(&self.journal(&slot), events, resume.parse()?)?;
        Ok(slot)
    }
}

fn fill(path: &Path, events: usize, resume_lsn: Lsn) -> Outcome {
    let (journal, writer) = Journal::open(JournalOptions::new(path))?;
    let name: Arc<str> = "person.created".into();
    let tag = TransactionTag::new("bench", 0, 0, 0, 0);
    let committed_at_us = jiff::Timestamp::now().as_microsecond();
    for first in (1..=events).step_by(AT_ONCE) {
        let mut batch = EventBatch::default();
        for n in first..=events.min(first + AT_ONCE - 1) {
            let id = EventId::new(n as u64, 0, tag);
            let lanes = Lanes::one(n as i64);
            let write = |body: &mut Vec<u8>| write_body(body, id, n);
            batch.push(id, Arc::clone(&name), lanes, committed_at_us, write)?;
        }
        let last = first + batch.len() - 1;
        let position = Position { commit_lsn: Lsn(last as u64), ordinal: 0 };
        let checkpoint = Checkpoint { position, resume_lsn };
        let append = Append { events: batch, checkpoint, ..Append::default() };
        if journal.append(append, Instant::now() + PATIENCE)?.is_err() {
            return Err("the journal had no room for long".into());
        }
    }
    journal.make_durable()?;
    Ok(writer.stop()?)
}

/// Like the events of [`load`]'s rows.
fn write_body(body: &mut Vec<u8>, id: EventId, n: usize) -> io::Result<()> {
    write!(
        body,
        r#"{{"id":"{id}","event":"person.created","timestamp":"2025-02-10T15:30:50.123456Z","data":{{"id":{n},"first_name":"Adelheid","last_name":"Winterbottom-{n}","email":"adelheid.{n}@example.com","company_id":{company},"balance":{n}.25,"score":{n}.125,"active":true,"created_at":"2025-02-10T15:30:50.123456+00:00","attributes":{{"plan":"team","tags":["a","b"],"seats":7}}}},"source":{{"database":"postgres","schema":"public","table":"people","lsn":"0/16B3748","commitLsn":"0/16B3790","xid":743,"ordinal":0,"capture":"replication"}}}}"#,
        company = n % 1000,
    )
}
