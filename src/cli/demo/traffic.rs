//! Realistic traffic: several writers at once, each doing one transaction after another.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::actions::Work;
use super::known::{Fresh, Known};
use super::session::Session;
use super::tally::Tally;

/// Of so many transactions one is taken back: somebody changes their mind.
const CHANGES_OF_MIND: f64 = 0.03;

/// The traffic cannot go on.
#[derive(Debug)]
pub(super) struct TrafficError(tokio_postgres::Error);

impl fmt::Display for TrafficError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the demo's traffic stopped, because a statement failed")
    }
}

impl std::error::Error for TrafficError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Writers at work.
pub(super) struct Traffic {
    writers: JoinSet<Result<Tally, TrafficError>>,
    stop: watch::Sender<bool>,
}

impl Traffic {
    /// Starts `writers` writers on the database at `url`, which together make about
    /// `changes_per_second` changes, or as many as they can if that is 0.
    pub(super) async fn start(
        url: &str,
        writers: usize,
        changes_per_second: u32,
    ) -> Result<Traffic, TrafficError> {
        let known = Arc::new(known(url).await?);
        let pace = Arc::new(Pace::new(changes_per_second));
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        for _ in 0..writers {
            let session = Session::connect(url).await.map_err(TrafficError)?;
            let (known, pace, stopped) = (known.clone(), pace.clone(), stopped.clone());
            running.spawn(write(session, known, pace, stopped));
        }
        Ok(Traffic { writers: running, stop })
    }

    /// Waits until a writer fails; for ever while all is well.
    pub(super) async fn failed(&mut self) -> TrafficError {
        loop {
            match self.writers.join_next().await {
                Some(Ok(Err(error))) => return error,
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                // A writer that is done was told to stop.
                Some(Ok(Ok(_))) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Lets every writer finish its transaction, and adds up what they did.
    pub(super) async fn stop(mut self) -> Result<Tally, TrafficError> {
        self.stop.send_replace(true);
        let mut tally = Tally::default();
        while let Some(done) = self.writers.join_next().await {
            tally += done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        }
        Ok(tally)
    }
}

/// The rows that the schema came with.
async fn known(url: &str) -> Result<Known, TrafficError> {
    let known = Known::default();
    let mut rng = StdRng::from_os_rng();
    let session = Session::connect(url).await.map_err(TrafficError)?;
    for (sql, fresh) in [
        (
            "select id::text from companies",
            (|id| Fresh::Company(number(id))) as fn(String) -> Fresh,
        ),
        ("select id::text from people", Fresh::Person),
        ("select id::text from opportunities", |id| Fresh::Opportunity(number(id))),
        ("select id::text from notes", |id| Fresh::Note(number(id))),
        ("select id::text from tasks", Fresh::Task),
    ] {
        for row in session.client().query(sql, &[]).await.map_err(TrafficError)? {
            known.add(fresh(row.get(0)), &mut rng);
        }
    }
    Ok(known)
}

/// A bigint key; 0, which no row has, cannot come out of a bigint's text.
fn number(text: String) -> i64 {
    text.parse().unwrap_or_default()
}

/// One writer.
async fn write(
    mut session: Session,
    known: Arc<Known>,
    pace: Arc<Pace>,
    mut stopped: watch::Receiver<bool>,
) -> Result<Tally, TrafficError> {
    let mut rng = StdRng::from_os_rng();
    let mut tally = Tally::default();
    while !*stopped.borrow() {
        let done = transaction(&mut session, &mut rng, &known).await.map_err(TrafficError)?;
        tally += done;
        let changes = done.committed.total() + done.rolled_back;
        let pause = pace.pause(changes, &mut rng);
        if !pause.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|&stop| stop) => {}
            }
        }
    }
    Ok(tally)
}

/// One action, committed or taken back.
async fn transaction(
    session: &mut Session,
    rng: &mut StdRng,
    known: &Known,
) -> Result<Tally, tokio_postgres::Error> {
    let taken_back = rng.random_bool(CHANGES_OF_MIND);
    session.client().batch_execute("begin").await?;
    let mut work = Work::new(session, rng, known);
    let result = work.run().await;
    let (counts, fresh) = (work.counts, std::mem::take(&mut work.fresh));
    match result {
        Ok(()) if !taken_back => {
            session.client().batch_execute("commit").await?;
            fresh.into_iter().for_each(|row| known.add(row, rng));
            let transactions = u64::from(counts.total() > 0);
            Ok(Tally { transactions, committed: counts, rolled_back: 0 })
        }
        Err(error) if !collided(&error) => Err(error),
        _ => {
            session.client().batch_execute("rollback").await?;
            Ok(Tally { rolled_back: counts.total(), ..Tally::default() })
        }
    }
}

/// Whether writers got into each other's way, as they do: a note for a person just forgotten, two
/// transactions that wait for each other.
fn collided(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::FOREIGN_KEY_VIOLATION
            || *code == SqlState::UNIQUE_VIOLATION
            || *code == SqlState::T_R_DEADLOCK_DETECTED
    })
}

/// Keeps all writers together at a number of changes per second.
struct Pace {
    /// Seconds a change takes.
    per_change: f64,
    /// When the next one is due.
    next: Mutex<Instant>,
}

impl Pace {
    fn new(changes_per_second: u32) -> Pace {
        let per_change =
            if changes_per_second == 0 { 0.0 } else { 1.0 / f64::from(changes_per_second) };
        Pace { per_change, next: Mutex::new(Instant::now()) }
    }

    /// How long to wait after `changes` changes; people do not act like clockwork.
    fn pause(&self, changes: u64, rng: &mut StdRng) -> Duration {
        if self.per_change == 0.0 {
            return Duration::ZERO;
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let seconds = self.per_change * changes as f64 * rng.random_range(0.5..1.5);
        *next = (*next).max(now) + Duration::from_secs_f64(seconds);
        next.duration_since(now)
    }
}
