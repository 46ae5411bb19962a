//! A slot that standbys keep a copy of (17 and newer).

use walhook::throwaway::{Options, StopMode};

use super::{PATIENCE, Pair, has_version, insert};
use crate::harness::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_slot_survives_its_primary() {
    let options =
        Options::new().conf("hot_standby_feedback = on").conf("primary_slot_name = 'standby'");
    let mut pair = Pair::new(options, "").await;
    if !has_version(&pair, 17, "failover slots") {
        pair.workspace = pair.workspace.toml("[source]\nfailover = true");
        pair.workspace.run(&["setup"]).await.assert(1, &["failover slots need PostgreSQL 17"]);
        return;
    }
    // A slot that is not one yet becomes one.
    pair.workspace.run(&["setup"]).await.assert(0, &[]);
    pair.workspace = pair.workspace.toml("[source]\nfailover = true");
    let told = pair.workspace.run(&["check"]).await.stdout;
    assert!(told.contains("is not a failover slot"), "{told}");
    assert!(told.contains("synchronized_standby_slots is empty"), "{told}");
    let plan = pair.workspace.run(&["setup", "--dry-run"]).await.stdout;
    assert!(plan.contains("ALTER_REPLICATION_SLOT \"crm\" (FAILOVER true);"), "{plan}");
    let done = pair.workspace.run(&["setup"]).await;
    done.assert(0, &[]);
    assert!(done.stdout.contains("done     let standbys keep a copy"), "{}", done.stdout);
    pair.primary.add_conf("synchronized_standby_slots = 'standby'").unwrap();
    pair.on_primary.execute("select pg_reload_conf()").await;
    eventually(PATIENCE, "check is content", async || {
        let told = pair.workspace.run(&["check"]).await.stdout;
        (!told.contains("failover slot") && !told.contains("synchronized_standby")).then_some(())
    })
    .await;

    let standby = pair.on_standby.client().await;
    let at_standby = walhook_options(&pair);
    let told = walhook::source::check::check(&standby, &at_standby).await.unwrap();
    assert!(told.iter().any(|f| f.sentence.contains("sync_replication_slots is off")), "{told:?}");
    pair.standby.add_conf("sync_replication_slots = on").unwrap();
    standby.execute("select pg_reload_conf()", &[]).await.unwrap();

    let daemon = pair.start_on_primary().await;
    pair.deliver(&pair.on_primary, "Ada").await;
    let primary = pair.on_primary.client().await;
    let synced = "select synced and not temporary and confirmed_flush_lsn is not null \
                  from pg_replication_slots where slot_name = 'crm'";
    eventually(PATIENCE, "the slot is at the standby", async || {
        // A slot that stands still at the primary is not taken over.
        primary.query("select pg_log_standby_snapshot()", &[]).await.unwrap();
        let row = standby.query_opt(synced, &[]).await.unwrap()?;
        row.get::<_, bool>(0).then_some(())
    })
    .await;
    let told = walhook::source::check::check(&standby, &at_standby).await.unwrap();
    assert!(told.iter().any(|f| f.sentence.contains("copy of the primary's slot")), "{told:?}");
    // What follows the last look of the standby at the slot.
    pair.deliver(&pair.on_primary, "Grace").await;
    drop(primary);
    pair.primary.stop(StopMode::Immediate).unwrap();
    daemon.says("can be read when the standby is promoted", PATIENCE).await;
    pair.standby.promote().unwrap();

    pair.deliver(&pair.on_standby, "Hedy").await;
    daemon.stop().await;
    insert(&pair.on_standby, "afterwards").await;
    let daemon = pair.workspace.start(&pair.on_standby).await;
    pair.receiver.wait_for(4, PATIENCE).await;
    daemon.stop().await;
    assert_eq!(pair.delivered(), ["Ada", "Grace", "Hedy", "afterwards"]);
}

fn walhook_options(pair: &Pair) -> walhook::source::SourceOptions {
    walhook::source::SourceOptions {
        outbox: None,
        slot: pair.slot().to_owned(),
        publication: pair.slot().to_owned(),
        tables: vec![walhook::source::TableSpec::exact("public", "person")],
        failover: true,
        create: false,
    }
}
