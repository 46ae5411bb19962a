//! What a receiver builds from the events is what the tables hold.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Capture, Receiver, Request, TPC_B_TABLES, TpcB, Workspace, under_both_captures,
};

under_both_captures!(a_receiver_ends_with_the_tables_content);

const CLIENTS: usize = 8;
const TRANSACTIONS_EACH: usize = 500;
const PATIENCE: Duration = Duration::from_secs(300);

/// The tables as a receiver sees them: per table and key, the row.
#[derive(Default)]
struct Replica {
    rows: HashMap<(String, String), Value>,
    seen: HashSet<String>,
}

impl Replica {
    fn apply(&mut self, request: &Request) {
        let mut event = request.json();
        let first = self.seen.insert(request.id().to_owned());
        assert!(first, "{} came twice without need", request.id());
        let table = event["source"]["table"].as_str().unwrap().to_owned();
        let data = event["data"].take();
        // The history has no key: each of its events is a row of its own.
        let key = match table.as_str() {
            "pgbench_branches" => data["bid"].to_string(),
            "pgbench_tellers" => data["tid"].to_string(),
            "pgbench_accounts" => data["aid"].to_string(),
            _ => request.id().to_owned(),
        };
        let name = event["event"].as_str().unwrap();
        let row = (table, key);
        match name.rsplit_once('.').unwrap().1 {
            "created" => {
                let before = self.rows.insert(row, data);
                assert!(before.is_none(), "{name} of a row that is there: {before:?}");
            }
            "updated" => {
                let before = self.rows.insert(row, data);
                assert!(before.is_some(), "{name} of a row that is not there");
            }
            "deleted" => assert!(self.rows.remove(&row).is_some(), "{name} of a missing row"),
            other => panic!("{other} is no change of a row"),
        }
    }

    fn content(&self, table: &str) -> Vec<Value> {
        let rows = self.rows.iter().filter(|((its, _), _)| its == table);
        let mut rows: Vec<Value> = rows.map(|(_, row)| row.clone()).collect();
        rows.sort_by_cached_key(Value::to_string);
        rows
    }
}

async fn a_receiver_ends_with_the_tables_content(capture: Capture) {
    let database = Arc::new(capture.database().await);
    let load = TpcB { scale: 10 };
    load.create_tables(&database).await;
    let receiver = Receiver::start().await;
    let mut workspace = Workspace::new(&database).endpoint("main", &receiver.url("/"), "");
    for table in TPC_B_TABLES {
        let record = table.strip_prefix("pgbench_").unwrap();
        workspace = workspace.table(&format!("public.{table}"), record);
    }
    let daemon = workspace.start(&database).await;

    let filled = load.fill(&database).await;
    let due = filled + load.run(&database, CLIENTS, TRANSACTIONS_EACH).await;

    let client = database.client().await;
    let mut truth = HashMap::new();
    for table in TPC_B_TABLES {
        truth.insert(table, TpcB::content(&client, table).await);
    }
    let requests = receiver.wait_for(due, PATIENCE).await;
    daemon.stop().await;

    let mut replica = Replica::default();
    for request in &requests {
        replica.apply(request);
    }
    for (table, truth) in truth {
        let replicated = replica.content(table);
        assert_eq!(replicated.len(), truth.len(), "rows of {table}");
        for (replicated, truth) in replicated.iter().zip(&truth) {
            assert_eq!(replicated, truth, "a row of {table}");
        }
    }
    assert_eq!(receiver.count(), due, "requests beyond what happened");
    receiver.assert_all_signed();
}
