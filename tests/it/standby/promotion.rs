//! A standby takes over, and may or may not have what walhook has seen.

use walhook::throwaway::{Options, StopMode};

use super::{PATIENCE, Pair, REFUSED, insert};
use crate::harness::{eventually, lag_bytes};

const READ_WRITE: &str = "?target_session_attrs=read-write";

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_goes_on_at_a_standby_that_has_everything() {
    let pair = Pair::new(Options::new(), READ_WRITE).await;
    let daemon = pair.start_on_primary().await;
    pair.deliver(&pair.on_primary, "Ada").await;
    pair.caught_up().await;
    pair.primary.stop(StopMode::Fast).unwrap();
    pair.standby.stop(StopMode::Fast).unwrap();
    pair.carry_slot_over();
    pair.standby.resume().unwrap();
    let promoted = pair.on_standby.client().await;
    promoted.query_one("select pg_promote()", &[]).await.unwrap();

    pair.deliver(&pair.on_standby, "Grace").await;
    daemon.stop().await;
    insert(&pair.on_standby, "meanwhile").await;
    let daemon = pair.workspace.start(&pair.on_standby).await;
    pair.receiver.wait_for(3, PATIENCE).await;
    pair.deliver(&pair.on_standby, "Hedy").await;
    daemon.stop().await;
    // The old primary has not heard of that.
    pair.primary.resume().unwrap();
    let words = ["timeline 1, which does not descend from timeline 2", "old primary"];
    pair.workspace.run(&["run"]).await.assert(REFUSED, &words);
    assert_eq!(pair.delivered(), ["Ada", "Grace", "meanwhile", "Hedy"]);
}

/// The primary wrote on, but nothing that is published, and the standby never got that.
#[tokio::test(flavor = "multi_thread")]
async fn log_without_changes_may_be_missing_at_the_standby() {
    let pair = Pair::new(Options::new(), READ_WRITE).await;
    let mut daemon = pair.start_on_primary().await;
    pair.deliver(&pair.on_primary, "Ada").await;
    pair.caught_up().await;
    pair.on_primary.execute("checkpoint").await;
    pair.standby.stop(StopMode::Fast).unwrap();
    pair.carry_slot_over();
    let noise = "insert into noise select repeat('x', 1000) from generate_series(1, 10000)";
    pair.on_primary.execute(noise).await;
    let client = pair.on_primary.client().await;
    eventually(PATIENCE, "the noise is confirmed", async || {
        (lag_bytes(&client, pair.slot()).await < 256 * 1024).then_some(())
    })
    .await;
    drop(client);
    pair.fail_over();

    pair.deliver(&pair.on_standby, "Grace").await;
    // As good after a crash: the way back is stored.
    daemon.sigkill().await;
    insert(&pair.on_standby, "meanwhile").await;
    let daemon = pair.workspace.start(&pair.on_standby).await;
    let came = "what was written meanwhile";
    pair.receiver
        .wait_until(PATIENCE, came, |requests| {
            requests.iter().any(|request| request.json()["data"]["name"] == "meanwhile")
        })
        .await;
    daemon.stop().await;
    let mut delivered = pair.delivered();
    // What was in flight at the kill may come again.
    delivered.dedup();
    assert_eq!(delivered, ["Ada", "Grace", "meanwhile"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_refuses_a_standby_that_lacks_what_it_sent() {
    let pair = Pair::new(Options::new(), READ_WRITE).await;
    let daemon = pair.start_on_primary().await;
    pair.deliver(&pair.on_primary, "Ada").await;
    pair.caught_up().await;
    pair.on_primary.execute("checkpoint").await;
    pair.standby.stop(StopMode::Fast).unwrap();
    pair.carry_slot_over();
    pair.deliver(&pair.on_primary, "unknown to the standby").await;
    pair.fail_over();
    insert(&pair.on_standby, "in its place").await;

    daemon.finished(PATIENCE).await.assert(REFUSED, &["timeline", "stored position"]);
    let again = pair.workspace.run(&["run"]).await;
    again.assert(REFUSED, &["timeline", "stored position", "--accept-gap"]);
    assert_eq!(pair.delivered(), ["Ada", "unknown to the standby"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_made_after_the_promotion_is_a_gap() {
    let pair = Pair::new(Options::new(), "").await;
    let daemon = pair.start_on_primary().await;
    pair.deliver(&pair.on_primary, "Ada").await;
    pair.caught_up().await;
    pair.primary.stop(StopMode::Fast).unwrap();
    // As long as the standby is one, the primary may come back.
    daemon.says("this is a standby without the replication slot", PATIENCE).await;
    pair.standby.promote().unwrap();
    daemon.finished(PATIENCE).await.assert(REFUSED, &[pair.slot(), "walhook setup"]);

    insert(&pair.on_standby, "lost").await;
    pair.workspace.run(&["setup"]).await.assert(0, &[]);
    let refused = pair.workspace.run(&["run"]).await;
    refused.assert(REFUSED, &["stored position", "lost", "--accept-gap"]);
    assert_eq!(pair.delivered(), ["Ada"]);
}
