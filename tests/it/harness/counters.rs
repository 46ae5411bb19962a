//! Rows that count their own changes: a load whose events prove by themselves that none is missing,
//! doubled or out of place.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::seq::index::sample;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Error};

use super::request::position_of;
use super::{Database, Receiver, Request, eventually, pause};

pub(crate) const KEYS: i64 = 200;

/// Clients that change the counters until they are stopped.
pub(crate) struct Counters {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Counters {
    /// The table, `public.counter`: `n` says how often its row was written, and is never lowered.
    pub(crate) async fn create_table(database: &Database) {
        let table = "create table counter (id int8 primary key, n int8 not null, note text)";
        database.execute(table).await;
    }

    /// Starts so many clients. Each survives the server going away and comes back.
    pub(crate) fn start(database: &Arc<Database>, clients: usize) -> Counters {
        let mut counters =
            Counters { stop: Arc::default(), committed: Arc::default(), clients: JoinSet::new() };
        for _ in 0..clients {
            let database = Arc::clone(database);
            let stop = Arc::clone(&counters.stop);
            let committed = Arc::clone(&counters.committed);
            counters.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(mut client) = database.try_client().await {
                        let _ = count(&mut client, &stop, &committed).await;
                    }
                    pause(Duration::from_millis(10)).await;
                }
            });
        }
        counters
    }

    /// Transactions known to be committed so far.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until so many more transactions are committed.
    pub(crate) async fn commits_more(&self, count: u64) {
        let goal = self.committed() + count;
        eventually(Duration::from_secs(300), "the load goes on", async || {
            (self.committed() >= goal).then_some(())
        })
        .await;
    }

    /// Lets the clients finish what they are at.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
    }

    /// How many events the table's rows account for.
    pub(crate) async fn events_due(database: &Database) -> usize {
        let sql = "select coalesce(sum(n), 0)::int8 from counter";
        let due: i64 = database.client().await.query_one(sql, &[]).await.unwrap().get(0);
        due as usize
    }

    /// Waits until every change so far has come, and gives all that came.
    pub(crate) async fn arrived(
        database: &Database,
        receiver: &Receiver,
        within: Duration,
    ) -> Vec<Arc<Request>> {
        let due = Counters::events_due(database).await;
        receiver
            .wait_until(within, "every change", |requests| Counters::complete(requests, due))
            .await
    }

    /// Whether every change has come. Cheap enough to be asked often.
    pub(crate) fn complete(requests: &[Arc<Request>], due: usize) -> bool {
        requests.len() >= due
            && requests
                .iter()
                .map(|request| request.id())
                .collect::<std::collections::HashSet<_>>()
                .len()
                >= due
    }

    /// Fails the test unless the requests tell each row's whole story in order, where an event may
    /// come again only before the next one of its row, and with the same bytes. The answer is the
    /// arrivals that were repeats.
    pub(crate) async fn verify(database: &Database, requests: &[Arc<Request>]) -> Vec<usize> {
        let mut rows: HashMap<i64, Row> = HashMap::new();
        let mut repeats = Vec::new();
        for request in requests {
            let event = request.json();
            let id = event["data"]["id"].as_i64().unwrap();
            let n = event["data"]["n"].as_i64().unwrap();
            let position = position_of(&event);
            let row = rows.entry(id).or_default();
            if row.newest.as_ref().is_some_and(|newest| newest.id() == request.id()) {
                assert_eq!(row.newest.as_ref().unwrap().body, request.body, "another body");
                repeats.push(request.arrival);
                continue;
            }
            assert_eq!(n, row.n + 1, "row {id}: change {n} came after change {}", row.n);
            assert!(position > row.position, "row {id}, change {n}: position went backwards");
            let before = row.newest.as_ref().map(|newest| newest.id());
            assert!(Some(request.id()) > before, "row {id}, change {n}: id went backwards");
            let name = if n == 1 { "counter.created" } else { "counter.updated" };
            assert_eq!(event["event"], name);
            assert_eq!(event["id"], request.id());
            *row = Row { n, position, newest: Some(Arc::clone(request)) };
        }
        let client = database.client().await;
        let truth = client.query("select id, n from counter", &[]).await.unwrap();
        assert_eq!(rows.len(), truth.len());
        for row in truth {
            let (id, n): (i64, i64) = (row.get(0), row.get(1));
            assert_eq!(rows[&id].n, n, "the newest changes of row {id} did not come");
        }
        repeats
    }
}

#[derive(Default)]
struct Row {
    n: i64,
    position: (u64, u64),
    newest: Option<Arc<Request>>,
}

/// One client: transactions of one to four changes, some rolled back.
async fn count(client: &mut Client, stop: &AtomicBool, done: &AtomicU64) -> Result<(), Error> {
    let upsert = "insert into counter values ($1, 1, $2) on conflict (id) \
                  do update set n = counter.n + 1, note = excluded.note";
    let upsert = client.prepare(upsert).await?;
    while !stop.load(Ordering::Relaxed) {
        let (mut ids, rolls_back, note) = {
            let mut rng = rand::rng();
            let changes = rng.random_range(1..=4);
            let ids = sample(&mut rng, KEYS as usize, changes).into_vec();
            (ids, rng.random_bool(0.05), "é".repeat(rng.random_range(0..200)))
        };
        // All clients lock in the same order, so none waits for another in a circle.
        ids.sort_unstable();
        let transaction = client.transaction().await?;
        for id in ids {
            transaction.execute(&upsert, &[&(id as i64), &note]).await?;
        }
        if rolls_back {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
