//! Changes, told twice: by a daemon that runs while they happen, and by one that comes too late.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Capture, Daemon, Database, Receiver, Request, Workspace, position_of};

const PATIENCE: Duration = Duration::from_secs(60);
/// What comes last. Transactional, so that it comes at its commit's place.
const THE_END: &str = "the.end";

/// Among the changes of a story: `walhook setup` is run once more.
pub(crate) const SETUP: &str = "-- walhook setup";

/// Tables in `public`, each captured under its own name.
pub(crate) struct Story<'a> {
    database: &'a Database,
    tables: Vec<String>,
    later: Vec<String>,
}

impl<'a> Story<'a> {
    /// The tables exist.
    pub(crate) fn of(database: &'a Database, tables: &[&str]) -> Story<'a> {
        let tables = tables.iter().map(|&table| table.to_owned()).collect();
        Story { database, tables, later: Vec::new() }
    }

    /// Names of the configuration that no table has yet.
    pub(crate) fn later(mut self, tables: &[&str]) -> Story<'a> {
        self.later = tables.iter().map(|&table| table.to_owned()).collect();
        self
    }

    /// Runs `changes` one after the other on one connection, each a transaction unless it says
    /// `begin` and `commit`, and gives the events in the order of arrival.
    ///
    /// One daemon is running meanwhile. Where there are slots, another one starts afterwards, with a
    /// journal of its own and from a slot as old: the catalog is ahead of every row by then. Both
    /// must send the same bytes in the same order.
    pub(crate) async fn told(self, changes: &[&str]) -> Vec<Value> {
        let live = self.teller("live").await;
        let late = match self.database.capture() {
            Capture::Replication => Some(self.teller("late").await),
            // What one daemon has taken from an outbox is there for no other.
            Capture::Outbox => None,
        };
        let daemon = live.workspace.start(self.database).await;
        // Not before: the database may end idle sessions soon.
        let client = self.database.client().await;
        for &change in changes {
            if change == SETUP {
                live.workspace.run(&["setup"]).await.assert(0, &[]);
                continue;
            }
            client.batch_execute(change).await.unwrap_or_else(|error| {
                panic!("{change}: {error:?}");
            });
        }
        client.batch_execute(&self.database.emit(THE_END)).await.unwrap();
        let told = live.to_the_end(daemon).await;
        let mut events: Vec<Value> = told.iter().map(|request| request.json()).collect();
        events.pop();
        if let Some(late) = late {
            let daemon = late.workspace.start(self.database).await;
            let told_again = late.to_the_end(daemon).await;
            let bodies = |told: &[Arc<Request>]| -> Vec<String> {
                told.iter().map(|request| without_reading_time(request)).collect()
            };
            assert_eq!(bodies(&told), bodies(&told_again), "a replay tells another story");
            let positions: Vec<_> = events.iter().map(position_of).collect();
            assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
        }
        let ids: Vec<_> = told.iter().map(|request| request.id()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        events
    }

    async fn teller(&self, name: &str) -> Teller {
        let receiver = Receiver::start().await;
        let slot = format!("{}_{name}", self.database.name());
        let source = format!("[source]\nslot = '{slot}'\ncreate = false");
        let mut workspace = Workspace::new(self.database).toml(&source).endpoint(
            "main",
            &receiver.url("/"),
            "ordering = 'strict'",
        );
        for table in &self.tables {
            workspace = workspace.table(&format!("public.{table}"), table);
        }
        workspace.run(&["setup"]).await.assert(0, &[]);
        for table in &self.later {
            workspace = workspace.table(&format!("public.{table}"), table);
        }
        Teller { receiver, workspace }
    }
}

struct Teller {
    receiver: Receiver,
    workspace: Workspace,
}

impl Teller {
    async fn to_the_end(&self, daemon: Daemon) -> Vec<Arc<Request>> {
        let ended = |requests: &[Arc<Request>]| {
            requests.last().is_some_and(|request| request.json()["event"] == THE_END)
        };
        let told = self.receiver.wait_until(PATIENCE, "the end of the story", ended).await;
        daemon.stop().await;
        self.receiver.assert_all_signed();
        told
    }
}

/// The body. A message that belongs to no transaction has no time of its own, only that of its
/// being read, so there the time is left out.
fn without_reading_time(request: &Request) -> String {
    let mut event = request.json();
    if event["source"]["xid"] == 0 {
        assert!(event.as_object_mut().unwrap().remove("timestamp").is_some());
        return event.to_string();
    }
    String::from_utf8(request.body.clone()).unwrap()
}

/// `created 1`: what happened to which row, for stories whose events need no more.
pub(crate) fn summary(events: &[Value]) -> Vec<String> {
    let of = |event: &Value| match &event["data"]["id"] {
        Value::Null => event["event"].as_str().unwrap().to_owned(),
        id => format!("{} {id}", event["event"].as_str().unwrap()),
    };
    events.iter().map(of).collect()
}

/// What an event says of a row, without the rest of the envelope.
pub(crate) fn row_parts(event: &Value) -> Value {
    let keys = ["data", "previous", "updatedFields", "unchanged"].into_iter();
    keys.filter_map(|key| Some((key.to_owned(), event.get(key)?.clone()))).collect()
}
