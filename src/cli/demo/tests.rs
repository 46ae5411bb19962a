//! The traffic on a real server: what it says it committed is what the log holds.

use std::time::Duration;

use super::session::Session;
use super::tally::Counts;
use super::traffic::Traffic;
use crate::throwaway::{Cluster, Options};

const DECODED: &str = "select chr(get_byte(data, 0)), count(*)
    from pg_logical_slot_get_binary_changes('tally', null, null,
        'proto_version', '1', 'publication_names', 'tally', 'messages', 'true')
    group by 1";

/// What the log holds, by pgoutput's own tags.
async fn logged(session: &Session) -> Counts {
    let mut counts = Counts::default();
    for row in session.client().query(DECODED, &[]).await.unwrap() {
        let number = u64::try_from(row.get::<_, i64>(1)).unwrap();
        match row.get(0) {
            "I" => counts.created = number,
            "U" => counts.updated = number,
            "D" => counts.deleted = number,
            "M" => counts.custom = number,
            _ => {}
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tally_is_what_the_log_holds() {
    let cluster = Cluster::start(&Options::new()).unwrap();
    let url = cluster.url("postgres");
    let session = Session::connect(&url).await.unwrap();
    session.client().batch_execute(include_str!("../../../sql/demo.sql")).await.unwrap();
    // Two transactions: a slot cannot be created in one that wrote.
    for sql in [
        "create publication tally for all tables",
        "select pg_create_logical_replication_slot('tally', 'pgoutput')",
    ] {
        session.client().batch_execute(sql).await.unwrap();
    }

    let mut traffic = Traffic::start(&url, 4, 0).await.unwrap();
    let enough = async {
        // By then every kind of change was made: a deal is won after four changes of its stage.
        let sql = "select count(*) > 20 from opportunities where stage = 'won'";
        while !session.client().query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        done = tokio::time::timeout(Duration::from_secs(60), enough) => done.unwrap(),
        error = traffic.failed() => panic!("{}", super::chain(&error)),
    }
    let tally = traffic.stop().await.unwrap();

    assert_eq!(logged(&session).await, tally.committed);
    let Counts { created, updated, deleted, custom } = tally.committed;
    assert!(created > 0 && updated > 0 && deleted > 0 && custom > 20, "{tally:?}");
}
