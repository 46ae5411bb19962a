//! An outbox is followed to the standby that takes over: it has the outbox, too.

use walhook::throwaway::{Options, StopMode};

use super::{PATIENCE, Pair, insert};

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_is_drained_on_after_a_promotion() {
    let mut pair = Pair::new(Options::new(), "").await;
    let workspace =
        std::mem::replace(&mut pair.workspace, crate::harness::Workspace::new(&pair.on_primary));
    pair.workspace = workspace.toml("[source]\ncapture = 'outbox'");
    let daemon = pair.workspace.spawn();
    daemon.says("create the triggers", PATIENCE).await;
    pair.deliver(&pair.on_primary, "Ada").await;
    daemon.stop().await;
    insert(&pair.on_primary, "meanwhile").await;
    pair.caught_up().await;
    pair.primary.stop(StopMode::Fast).unwrap();
    let daemon = pair.workspace.spawn();
    daemon.says("this is a standby", PATIENCE).await;
    pair.standby.promote().unwrap();
    pair.receiver.wait_for(2, PATIENCE).await;
    daemon.says("the server is on timeline 2, after 1", PATIENCE).await;
    pair.deliver(&pair.on_standby, "Grace").await;
    daemon.stop().await;
    assert_eq!(pair.delivered(), ["Ada", "meanwhile", "Grace"]);
}
