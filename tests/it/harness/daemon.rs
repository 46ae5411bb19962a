//! `walhook run` as a process.

use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::{Capture, eventually};

/// How long the daemon may take to get going, on a machine that does much else.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
}

/// What a process that ended left.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Fails the test unless the process left with `code` and said all `words` on stderr, in
    /// whatever case.
    #[track_caller]
    pub(crate) fn assert(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "it said: {}", self.stderr);
        let said = self.stderr.to_lowercase();
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "no {word:?} in: {}", self.stderr);
        }
        assert!(!said.contains("panicked"), "{}", self.stderr);
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Daemon {
    pub(crate) fn spawn(mut command: Command) -> Daemon {
        let mut child = command.spawn().unwrap();
        let stderr = Lines::default();
        let out = child.stdout.take().unwrap();
        let err = child.stderr.take().unwrap();
        let readers = vec![
            tokio::spawn(gather(out, Lines::default())),
            tokio::spawn(gather(err, Arc::clone(&stderr))),
        ];
        Daemon { child, stderr, readers }
    }

    /// Waits until the slot is read by somebody other than `before`: the walsender of a daemon that
    /// was killed lives on for a while.
    pub(crate) async fn streams(&self, client: &Client, slot: &str, before: Option<i32>) {
        self.follows(Capture::Replication, client, slot, before).await;
    }

    /// The same for either capture.
    pub(crate) async fn follows(
        &self,
        capture: Capture,
        client: &Client,
        slot: &str,
        before: Option<i32>,
    ) {
        eventually(START_PATIENCE, "the daemon follows the database", async || {
            let reader = capture.reader(client, slot).await;
            reader.filter(|_| reader != before)
        })
        .await;
    }

    pub(crate) fn pid(&self) -> Pid {
        let pid = self.child.id().expect("the daemon has ended");
        Pid::from_raw(pid.try_into().unwrap()).unwrap()
    }

    pub(crate) fn sigterm(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn sigkill(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.start_kill();
        self.child.wait().await.unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) async fn finished(mut self, within: Duration) -> Finished {
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        let status: ExitStatus = match ended {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("the daemon still runs after {within:?}"),
        };
        for reader in self.readers.drain(..) {
            reader.await.unwrap();
        }
        Finished { code: status.code(), stdout: String::new(), stderr: self.stderr() }
    }

    /// Stops it in order; fails the test unless it leaves with 0.
    pub(crate) async fn stop(self) -> Finished {
        self.sigterm();
        let finished = self.finished(Duration::from_secs(60)).await;
        finished.assert(0, &[]);
        finished
    }

    /// What it said on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().join("\n")
    }

    /// Waits until it says something, in whatever case.
    pub(crate) async fn says(&self, text: &str, within: Duration) {
        let what = format!("the daemon says {text:?}");
        eventually(within, &what, async || {
            self.stderr().to_lowercase().contains(&text.to_lowercase()).then_some(())
        })
        .await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.stderr.lock().unwrap();
            let newest = &said[said.len().saturating_sub(40)..];
            eprintln!("the daemon's last words:\n{}", newest.join("\n"));
        }
    }
}

async fn gather(stream: impl AsyncRead + Unpin, lines: Lines) {
    let mut stream = BufReader::new(stream).lines();
    while let Ok(Some(line)) = stream.next_line().await {
        lines.lock().unwrap().push(line);
    }
}
