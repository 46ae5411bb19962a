//! Files that cannot be opened, and disks that are full.

use std::fs;

use super::*;

#[test]
fn two_never_share_a_file() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    let error = Journal::open(fixture.options.clone()).unwrap_err();
    assert!(error.is_locked());
    let text = error.to_string();
    let pid = format!("(process {})", std::process::id());
    assert!(text.contains("walhook.db is in use") && text.contains(&pid), "{text}");
    #[cfg(unix)]
    {
        // The same file under another name.
        let mut options = fixture.options.clone();
        options.path = fixture.directory.path().join("alias.db");
        std::os::unix::fs::symlink(fixture.path(), &options.path).unwrap();
        assert!(Journal::open(options).unwrap_err().is_locked());
    }
    writer.stop().unwrap();
    // The handle is only a handle: the lock went with the writer.
    let (_again, _writer) = fixture.open();
    drop(journal);
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let fixture = Fixture::new();
    let refused = |what: &str| {
        let before = fs::read(fixture.path()).unwrap();
        let error = Journal::open(fixture.options.clone()).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(!error.to_string().contains('\n'));
        let read_only = Journal::open_read_only(fixture.path()).unwrap_err();
        assert!(read_only.to_string().contains(what), "{read_only}");
        assert!(fs::read(fixture.path()).unwrap() == before, "the file was changed");
        error
    };
    fs::write(fixture.path(), b"[source]\nurl = \"postgres://\"\n".repeat(100)).unwrap();
    assert!(refused("is not a journal of walhook").is_not_a_journal());

    fs::remove_file(fixture.path()).unwrap();
    let other = rusqlite::Connection::open(fixture.path()).unwrap();
    other.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    drop(other);
    assert!(refused("database of another program").is_not_a_journal());

    fs::remove_file(fixture.path()).unwrap();
    fixture.open().1.stop().unwrap();
    let newer = rusqlite::Connection::open(fixture.path()).unwrap();
    newer.execute_batch("PRAGMA user_version = 77; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(newer);
    assert!(refused("newer walhook (schema 77, this one knows 4)").is_newer_schema());
}

#[test]
fn a_missing_directory_or_file_is_named() {
    let fixture = Fixture::new();
    let mut options = fixture.options.clone();
    options.path = fixture.directory.path().join("nowhere").join("walhook.db");
    let text = Journal::open(options).unwrap_err().to_string();
    assert!(text.contains("nowhere") && text.contains("check journal.path"), "{text}");
    let error = Journal::open_read_only(fixture.path()).unwrap_err();
    assert!(error.is_missing(), "{error}");
    assert!(!fixture.path().exists());
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let (journal, _writer) = fixture.open();
    append_durably(&journal, 1, 1);
    for name in ["walhook.db", "walhook.db-wal", "walhook.db-shm", "walhook.db.lock"] {
        let mode = fs::metadata(fixture.directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
    }
}

#[test]
fn a_newest_event_that_is_not_the_counted_one_is_noticed() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    append_durably(&journal, 1, 3);
    writer.stop().unwrap();
    drop(journal);
    let other = rusqlite::Connection::open(fixture.path()).unwrap();
    other.execute_batch("DELETE FROM events WHERE seq = 3").unwrap();
    drop(other);
    let error = Journal::open(fixture.options.clone()).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[test]
fn a_full_disk_acknowledges_nothing_and_loses_nothing() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    append_durably(&journal, 1, 10);
    let endpoint = block_on(journal.register_endpoint("one", Start::Earliest)).unwrap().endpoint;
    // SQLite never lets the limit fall below what is in use.
    execute(&journal, "PRAGMA max_page_count = 1").unwrap();

    append(&journal, append_of(11, 2000, |_| Lanes::NONE));
    eventually("the trouble is told", || journal.trouble().is_some());
    let trouble = journal.trouble().unwrap();
    assert!(trouble.is_disk_full() && trouble.is_retryable(), "{trouble}");
    assert!(trouble.to_string().contains("free space"), "{trouble}");
    assert!(journal.make_durable().unwrap_err().is_disk_full());
    let mut settlement = Settlement::new(endpoint, Seq(10));
    settlement.attempts = (1..=10).map(|seq| attempt(Seq(seq), Some(&"x".repeat(9000)))).collect();
    assert!(block_on(journal.settle(settlement.clone())).unwrap_err().is_disk_full());
    append(&journal, append_of(2011, 1, |_| Lanes::NONE));
    // Commands that fail between two attempts take nothing with them.
    for _ in 0..5 {
        assert!(block_on(journal.settle(settlement.clone())).unwrap_err().is_disk_full());
    }
    assert_eq!(journal.tail().last_seq(), Seq(10));
    assert!(journal.tail().get(Seq(10)).is_none());
    assert_eq!(journal.durable_lsn(), Lsn(100));
    assert_eq!(journal.checkpoint(), Some(checkpoint_at(10)));
    // Small things may still fit, and reading goes on.
    assert_eq!(block_on(journal.page(Seq(0), 100, 1 << 20)).unwrap().len(), 10);

    execute(&journal, "PRAGMA max_page_count = 1073741823").unwrap();
    eventually("the events are there", || journal.tail().last_seq() == Seq(2011));
    journal.make_durable().unwrap();
    assert!(journal.trouble().is_none());
    assert_eq!(journal.durable_lsn(), Lsn(20110));
    block_on(journal.settle(settlement)).unwrap();
    let status = fixture.reader().status().unwrap();
    assert_eq!((status.events.count, status.endpoints[0].failed), (2011, 10));
    let page = block_on(journal.page(Seq(10), 5000, 1 << 30)).unwrap();
    assert_eq!(page.len(), 2001);
    for (seq, event) in page.after(Seq(10)) {
        assert_eq!(event.id, id_at(seq.0 as u64));
    }
    writer.stop().unwrap();
}

#[test]
fn stopping_with_a_full_disk_says_so_and_ends() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    append_durably(&journal, 1, 10);
    execute(&journal, "PRAGMA max_page_count = 1").unwrap();
    append(&journal, append_of(11, 2000, |_| Lanes::NONE));
    eventually("the trouble is told", || journal.trouble().is_some());
    // What waits behind it does not hold up the end either.
    append(&journal, append_of(2011, 1, |_| Lanes::NONE));
    assert!(writer.stop().unwrap_err().is_disk_full());
    assert!(journal.append(Append::default(), Instant::now()).is_err());
    drop(journal);
    let (journal, _writer) = fixture.open();
    assert_eq!(journal.checkpoint(), Some(checkpoint_at(10)));
    assert_eq!(journal.tail().last_seq(), Seq(10));
}

#[test]
fn what_is_durable_is_noted_later_if_it_cannot_be_at_once() {
    let fixture = Fixture::new();
    let (journal, writer) = fixture.open();
    append_durably(&journal, 1, 10);
    let gate = "CREATE TABLE gate (opened); CREATE TABLE filler (bytes); \
        CREATE TRIGGER full AFTER UPDATE OF durable_lsn ON journal \
        WHEN NOT EXISTS (SELECT 1 FROM gate) \
        BEGIN INSERT INTO filler VALUES (zeroblob(1000000)); END; \
        PRAGMA max_page_count = 1";
    execute(&journal, gate).unwrap();
    eventually("the trouble is told", || journal.trouble().is_some());
    // Nothing else is written meanwhile, nor afterwards.
    let other = rusqlite::Connection::open(fixture.path()).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("INSERT INTO gate VALUES (1)").unwrap();
    drop(other);
    eventually("it is over", || journal.trouble().is_none());
    writer.stop().unwrap();
}
