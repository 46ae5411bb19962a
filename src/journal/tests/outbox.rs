//! The rows of an outbox that were taken, and that only this file remembers.

use super::*;

fn rows(ids: std::ops::Range<i64>) -> Vec<OutboxRow> {
    // Transaction ids beyond what SQLite counts without a sign, too.
    ids.map(|id| OutboxRow { id, xid: u64::MAX - id as u64, written_at_us: -id }).collect()
}

fn taken(journal: &Journal) -> Vec<OutboxRow> {
    block_on(journal.outbox_taken()).unwrap()
}

#[test]
fn taken_rows_are_remembered_until_they_are_deleted() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    assert_eq!(taken(&journal), []);
    append(&journal, Append { taken: rows(1..4), ..append_of(1, 3, |_| Lanes::NONE) });
    // Rows without events.
    append(
        &journal,
        Append { taken: rows(9..10), checkpoint: checkpoint_at(4), ..Append::default() },
    );
    journal.make_durable().unwrap();
    writer.stop().unwrap();
    drop(journal);

    let (journal, _writer) = fixture.open();
    let both: Vec<_> = rows(1..4).into_iter().chain(rows(9..10)).collect();
    assert_eq!(taken(&journal), both);
    append(
        &journal,
        Append { deleted: true, taken: rows(5..7), ..append_of(5, 1, |_| Lanes::NONE) },
    );
    journal.make_durable().unwrap();
    assert_eq!(taken(&journal), rows(5..7));
    // In an outbox made anew, a number comes again.
    let again = OutboxRow { id: 6, xid: 1, written_at_us: 1 };
    append(
        &journal,
        Append { taken: vec![again], checkpoint: checkpoint_at(6), ..Append::default() },
    );
    journal.make_durable().unwrap();
    assert_eq!(taken(&journal), [rows(5..6)[0], again]);
}

#[test]
fn what_is_lost_is_counted_for_good() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    for lost in [2, 0, 40] {
        append(
            &journal,
            Append { lost, taken: rows(1..2), checkpoint: checkpoint_at(1), ..Append::default() },
        );
    }
    journal.make_durable().unwrap();
    writer.stop().unwrap();
    drop(journal);
    let (journal, _writer) = fixture.open();
    let status = Journal::open_read_only(journal.path()).unwrap().status().unwrap();
    assert_eq!(status.outbox_lost, 42);
}

/// Events and the rows they are made of are written together or not at all.
#[test]
fn what_cannot_be_written_is_not_taken() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    append(&journal, Append { taken: rows(1..2), ..append_of(1, 1, |_| Lanes::NONE) });
    journal.make_durable().unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON outbox_taken WHEN NEW.id = 3 BEGIN \
                  SELECT RAISE(ABORT, 'no'); END";
    execute(&journal, refuse).unwrap();
    append(
        &journal,
        Append { deleted: true, taken: rows(2..4), ..append_of(2, 2, |_| Lanes::NONE) },
    );
    let deadline = Instant::now() + PATIENCE;
    while journal.make_durable().is_ok() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!((journal.checkpoint(), taken(&journal)), (Some(checkpoint_at(1)), rows(1..2)));
    assert_eq!(journal.tail().last_seq(), Seq(1));
}

#[test]
fn asking_for_durability_does_not_wait() {
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    append(&journal, append_of(1, 1, |_| Lanes::NONE));
    let soon = journal.durable_soon().unwrap();
    assert!(soon.wait(Instant::now() + PATIENCE).unwrap());
    assert_eq!(journal.durable_lsn(), Lsn(10));
}

/// A journal of the version before is a slot's.
#[test]
fn a_journal_of_version_2_goes_on() {
    let fixture = Fixture::new();
    let old = rusqlite::Connection::open(fixture.path()).unwrap();
    for step in
        [include_str!("../../../sql/journal.sql"), include_str!("../../../sql/journal_2.sql")]
    {
        old.execute_batch(step).unwrap();
    }
    old.execute_batch(
        "UPDATE journal SET system_identifier = 7, database_oid = 5, database = 'crm', timeline = 1,
             slot = 'walhook', commit_lsn = 1, ordinal = 0, resume_lsn = 10;
         PRAGMA application_id = 2003331889; PRAGMA user_version = 2",
    )
    .unwrap();
    drop(old);
    let (journal, _writer) = fixture.open();
    let identity = journal.identity().unwrap();
    assert_eq!((identity.capture, &*identity.slot), (CaptureKind::Replication, "walhook"));
    assert_eq!((journal.checkpoint(), taken(&journal)), (Some(checkpoint_at(1)), Vec::new()));
}
