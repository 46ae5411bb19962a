//! Killed at any moment.

use std::io::{BufRead, BufReader};
use std::process::{Command as Process, Stdio};

use super::*;

const CHILD: &str = "WALHOOK_TEST_JOURNAL_TO_FILL";

/// Not a test of its own: what the killed process runs. It appends and settles without end, and
/// prints each position the journal calls durable, and each settled cursor.
#[test]
fn fill_until_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let mut options = JournalOptions::new(path);
    options.durable_every = Duration::from_millis(3);
    let (journal, _writer) = Journal::open(options).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let state = runtime.block_on(journal.register_endpoint("one", Start::Earliest)).unwrap();
    let mut next = journal.checkpoint().map_or(1, |point| point.position.commit_lsn.0 + 1);
    for round in 1.. {
        let count = 1 + round % 97;
        append(&journal, append_of(next, count, |n| Lanes::one(n as i64 % 5)));
        next += count;
        let cursor = journal.tail().last_seq();
        let mut settlement = Settlement::new(state.endpoint, cursor);
        settlement.in_flight = vec![Listed { seq: cursor, sequence: 0 }];
        let settled = runtime.block_on(journal.settle(settlement));
        settled.unwrap();
        println!("cursor {cursor}");
        println!("durable {}", journal.durable_lsn().0);
    }
}

/// Runs [`fill_until_killed`] on the file until it has printed `lines` lines, kills it, and returns
/// the last durable position and cursor it named.
fn fill_and_kill(fixture: &Fixture, lines: usize) -> (u64, i64) {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::tests::crash::fill_until_killed", "--nocapture"])
        .env(CHILD, fixture.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (mut durable, mut cursor, mut seen) = (0, 0, 0);
    let mut killed = false;
    // What it printed before it died counts, too.
    for line in output.lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("durable", number)) => durable = number.parse().unwrap_or(durable),
            Some(("cursor", number)) => cursor = number.parse().unwrap_or(cursor),
            _ => continue,
        }
        seen += 1;
        if seen >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself after {seen} lines");
    (durable, cursor)
}

#[test]
fn nothing_committed_is_lost_and_nothing_is_there_twice() {
    let fixture = Fixture::new();
    for round in 0..8 {
        let (durable, cursor) = fill_and_kill(&fixture, 3 + round * 17);
        let (journal, writer) = fixture.open();
        let checkpoint = journal.checkpoint().unwrap();
        assert!(checkpoint.resume_lsn.0 >= durable, "{checkpoint:?} is behind {durable}");
        assert_eq!(journal.durable_lsn(), checkpoint.resume_lsn);
        let last = journal.tail().last_seq();
        assert_eq!(last.0 as u64, checkpoint.position.commit_lsn.0, "one event each");
        let state = block_on(journal.register_endpoint("one", Start::Now)).unwrap();
        assert!(state.cursor.0 >= cursor, "{state:?} is behind {cursor}");
        assert!(state.cursor <= last);
        let mut seen = 0;
        while seen < last.0 {
            let page = block_on(journal.page(Seq(seen), 1000, 1 << 20)).unwrap();
            assert_eq!(page.first_seq(), Seq(seen + 1));
            for (seq, event) in page.after(Seq(seen)) {
                assert_eq!(event.id, id_at(seq.0 as u64));
                assert_eq!(page.events().body(event), body_of(seq.0 as u64));
            }
            seen = page.last_seq().0;
        }
        writer.stop().unwrap();
    }
}
