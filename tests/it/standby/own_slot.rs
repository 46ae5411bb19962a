//! A standby that is followed by a slot of its own (16 and newer).

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, BufReader};
use walhook::throwaway::{Options, StopMode};

use super::{PATIENCE, Pair, has_version, insert};
use crate::harness::{Database, Workspace, slot_state};

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_followed_also_over_its_promotion() {
    let options =
        Options::new().conf("hot_standby_feedback = on").conf("primary_slot_name = 'standby'");
    let mut pair = Pair::new(options, "").await;
    if !has_version(&pair, 16, "logical decoding on standbys") {
        return;
    }
    let workspace = std::mem::replace(&mut pair.workspace, Workspace::new(&pair.on_primary));
    pair.workspace = workspace.source(&pair.on_standby);
    let refused = pair.workspace.run(&["setup"]).await;
    refused.assert(1, &["cannot be created or changed on a standby", "on the primary: create"]);
    pair.on_primary.execute("create publication crm for table person").await;
    pair.caught_up().await;

    set_up(&pair).await;
    assert!(slot_state(&pair.on_primary.client().await, pair.slot()).await.is_none());
    let daemon = pair.workspace.start(&pair.on_standby).await;
    pair.deliver(&pair.on_primary, "Ada").await;
    daemon.stop().await;
    insert(&pair.on_primary, "meanwhile").await;
    let daemon = pair.workspace.start(&pair.on_standby).await;
    pair.receiver.wait_for(2, PATIENCE).await;
    pair.deliver(&pair.on_primary, "Grace").await;

    pair.caught_up().await;
    pair.primary.stop(StopMode::Fast).unwrap();
    pair.standby.promote().unwrap();
    pair.deliver(&pair.on_standby, "Hedy").await;
    daemon.says("the stream went on from timeline 1 to 2", PATIENCE).await;
    pair.deliver(&pair.on_standby, "Mary").await;
    daemon.stop().await;
    insert(&pair.on_standby, "afterwards").await;
    let daemon = pair.workspace.start(&pair.on_standby).await;
    pair.receiver.wait_for(6, PATIENCE).await;
    daemon.stop().await;
    assert_eq!(pair.delivered(), ["Ada", "meanwhile", "Grace", "Hedy", "Mary", "afterwards"]);
}

/// The standby that is followed gets another primary: the other one, which was promoted.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_followed_to_another_primary() {
    let mut pair = Pair::new(Options::new(), "").await;
    if !has_version(&pair, 16, "logical decoding on standbys") {
        return;
    }
    pair.on_primary.execute("create publication crm for table person").await;
    let followed = Arc::new(pair.primary.standby(&Options::new()).unwrap());
    let on_followed = Database::existing_on(&followed, "crm");
    let workspace = std::mem::replace(&mut pair.workspace, Workspace::new(&pair.on_primary));
    pair.workspace = workspace.source(&on_followed);
    set_up(&pair).await;
    let daemon = pair.workspace.start(&on_followed).await;
    pair.deliver(&pair.on_primary, "Ada").await;

    pair.caught_up().await;
    pair.primary.stop(StopMode::Fast).unwrap();
    pair.standby.promote().unwrap();
    let port = pair.standby.port();
    let address = format!("primary_conninfo = 'host=127.0.0.1 port={port} user=postgres'");
    followed.add_conf(&address).unwrap();
    on_followed.execute("select pg_reload_conf()").await;
    pair.deliver(&pair.on_standby, "Grace").await;
    daemon.says("the stream went on from timeline 1 to 2", PATIENCE).await;
    daemon.stop().await;
    insert(&pair.on_standby, "afterwards").await;
    let daemon = pair.workspace.start(&on_followed).await;
    pair.receiver.wait_for(3, PATIENCE).await;
    daemon.stop().await;
    assert_eq!(pair.delivered(), ["Ada", "Grace", "afterwards"]);
}

/// `walhook setup`, which waits for a word of the primary. That one says it by itself every 15 seconds,
/// too: then there was nothing to wait for, and it is done again.
async fn set_up(pair: &Pair) {
    for _ in 0..5 {
        if asks(pair).await {
            return;
        }
        let client = pair.on_standby.client().await;
        client.query("select pg_drop_replication_slot($1)", &[&pair.slot()]).await.unwrap();
    }
    panic!("it waited for nobody, or did not say so");
}

/// Whether `walhook setup` asked for the primary's word.
async fn asks(pair: &Pair) -> bool {
    let mut setup = pair.workspace.command(&["setup"]).spawn().unwrap();
    let mut lines = BufReader::new(setup.stdout.take().unwrap()).lines();
    let client = pair.on_primary.client().await;
    let mut asked = false;
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("pg_log_standby_snapshot()") {
            asked = true;
            client.query("select pg_log_standby_snapshot()", &[]).await.unwrap();
        }
    }
    assert!(setup.wait().await.unwrap().success());
    asked
}
