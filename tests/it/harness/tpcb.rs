//! The transactions of TPC-B, with pgbench's tables.

use std::sync::Arc;

use rand::Rng;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::Database;

/// The tables, which are also what is compared in the end.
pub(crate) const TABLES: [&str; 4] =
    ["pgbench_branches", "pgbench_tellers", "pgbench_accounts", "pgbench_history"];
const TELLERS_PER_BRANCH: i32 = 10;
const ACCOUNTS_PER_BRANCH: i32 = 300;

/// A load of pgbench's size factor `scale`, with smaller accounts tables.
pub(crate) struct TpcB {
    pub(crate) scale: i32,
}

impl TpcB {
    /// Makes the empty tables. The history has no key, so its replica identity is the whole row.
    pub(crate) async fn create_tables(&self, database: &Database) {
        database
            .execute(
                "create table pgbench_branches
                     (bid int primary key, bbalance int, filler char(88));
                 create table pgbench_tellers
                     (tid int primary key, bid int, tbalance int, filler char(84));
                 create table pgbench_accounts
                     (aid int primary key, bid int, abalance int, filler char(84));
                 create table pgbench_history
                     (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
                 alter table pgbench_history replica identity full",
            )
            .await;
    }

    /// Fills them as `pgbench -i` does. The answer is how many rows that made.
    pub(crate) async fn fill(&self, database: &Database) -> usize {
        let TpcB { scale } = self;
        database
            .execute(&format!(
                "insert into pgbench_branches select g, 0, null from generate_series(1, {scale}) g;
                 insert into pgbench_tellers
                     select g, (g - 1) / {TELLERS_PER_BRANCH} + 1, 0, null
                     from generate_series(1, {scale} * {TELLERS_PER_BRANCH}) g;
                 insert into pgbench_accounts
                     select g, (g - 1) / {ACCOUNTS_PER_BRANCH} + 1, 0, ''
                     from generate_series(1, {scale} * {ACCOUNTS_PER_BRANCH}) g"
            ))
            .await;
        *scale as usize * (1 + TELLERS_PER_BRANCH + ACCOUNTS_PER_BRANCH) as usize
    }

    /// Runs so many transactions from each of so many clients at once. One in twenty is rolled
    /// back, and one in twenty also closes its account and opens another. The answer is how many
    /// row changes were committed.
    pub(crate) async fn run(&self, database: &Arc<Database>, clients: usize, each: usize) -> usize {
        let mut running = JoinSet::new();
        for number in 0..clients {
            let (database, scale) = (Arc::clone(database), self.scale);
            running.spawn(async move {
                let mut client = database.client().await;
                let mut changes = 0;
                for count in 0..each {
                    // Accounts opened by the load have keys nobody else uses.
                    let new_account = 1_000_000 * (number as i32 + 1) + count as i32;
                    changes += transaction(&mut client, scale, new_account).await;
                }
                changes
            });
        }
        running.join_all().await.into_iter().sum()
    }

    /// A table's rows as `to_jsonb` gives them, sorted by their text.
    pub(crate) async fn content(client: &Client, table: &str) -> Vec<serde_json::Value> {
        let sql = format!("select to_jsonb(t)::text from {table} t");
        let rows = client.query(&sql, &[]).await.unwrap();
        let mut rows: Vec<serde_json::Value> =
            rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect();
        rows.sort_by_cached_key(ToString::to_string);
        rows
    }
}

/// The answer is how many row changes were committed.
async fn transaction(client: &mut Client, scale: i32, new_account: i32) -> usize {
    let (aid, tid, bid, delta, rolls_back, moves) = {
        let mut rng = rand::rng();
        let aid = rng.random_range(1..=scale * ACCOUNTS_PER_BRANCH);
        let tid = rng.random_range(1..=scale * TELLERS_PER_BRANCH);
        let bid = rng.random_range(1..=scale);
        let delta = rng.random_range(-5000..=5000);
        (aid, tid, bid, delta, rng.random_bool(0.05), rng.random_bool(0.05))
    };
    let account = "update pgbench_accounts set abalance = abalance + $1 where aid = $2";
    let close = "delete from pgbench_accounts where aid = $1";
    let open = "insert into pgbench_accounts values ($1, $2, $3, 'opened')";
    let teller = "update pgbench_tellers set tbalance = tbalance + $1 where tid = $2";
    let branch = "update pgbench_branches set bbalance = bbalance + $1 where bid = $2";
    let history = "insert into pgbench_history values ($1, $2, $3, $4, clock_timestamp())";

    let transaction = client.transaction().await.unwrap();
    let mut changes = transaction.execute(account, &[&delta, &aid]).await.unwrap();
    if moves {
        changes += transaction.execute(close, &[&aid]).await.unwrap();
        changes += transaction.execute(open, &[&new_account, &bid, &delta]).await.unwrap();
    }
    changes += transaction.execute(teller, &[&delta, &tid]).await.unwrap();
    changes += transaction.execute(branch, &[&delta, &bid]).await.unwrap();
    changes += transaction.execute(history, &[&tid, &bid, &aid, &delta]).await.unwrap();
    if rolls_back {
        transaction.rollback().await.unwrap();
        return 0;
    }
    transaction.commit().await.unwrap();
    changes as usize
}
