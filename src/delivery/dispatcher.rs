//! The dispatcher of one endpoint: a loop over what the journal has, what is on its way, and what
//! came of it.
//!
//! It pulls: an event is taken from the stream only when there is a slot to send it, so a slow
//! endpoint costs no memory, and nobody but itself waits for it. What waits behind a failure lies in
//! the journal. State that can be looked at without a clock or a network stands in files of its own:
//! `window` (who must wait for whom, and who may go together), `retries` (what is due again), `health`
//! (whether to send at all, and what is told of it).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::unix_ms;
use crate::journal::{
    AttemptRecord, Due, EndpointId, Journal, JournalError, Seq, Settled, Settlement,
};

use super::attempt::{Attempt, Numbered, Parcel, Sender};
use super::endpoint::{EndpointOptions, Ordering};
use super::error::DeliveryError;
use super::host::Hosts;
use super::retry::RetrySchedule;

use courier::{Courier, Landing, Launch};
use health::Health;
use intake::{Intake, Page};
use retries::Retries;
use seldom::Seldom;
use wanted::Wanted;
use window::{Ended, Window};

mod courier;
mod fetch;
mod health;
mod intake;
mod launch;
mod outcome;
mod retries;
mod seldom;
mod settling;
mod start;
mod wanted;
mod window;

/// How the daemon stops its dispatchers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// Not at all.
    #[default]
    Run,
    /// Nothing new is sent; what is on its way is waited for and written down.
    Drain,
    /// At once. What is on its way will be repeated after the next start.
    Now,
}

/// Events in memory that wait for another one of their record, or for their parcel to be complete;
/// two parcels' worth where that is more.
const HELD_EVENTS: usize = 1_024;
/// Bytes of their bodies; again at least two parcels' worth.
const HELD_BYTES: usize = 4 << 20;
/// Bytes of bodies on their way, beyond which nothing goes out beside the others.
const FLYING_BYTES: usize = 32 << 20;
/// Records with something parked, beyond which nothing new is taken: each costs some memory.
const PARKED_LANES: usize = 100_000;
/// Events looked at in one turn of the loop.
const TURN_EVENTS: usize = 4_096;
/// As many of these as one is worth whose condition must be judged.
const COSTLY: usize = 16;
/// How long outcomes may gather while requests are on their way and nobody waits for them.
const LINGER: Duration = Duration::from_millis(2);
/// How often a cursor is saved that moves only over events which are not wanted.
const SAVE_CURSOR_EVERY: Duration = Duration::from_secs(1);
/// How long to wait after a journal error that may pass.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);
/// The loop looks around this often even if nothing calls it: the wall clock may be set, and
/// retention may free what is blocked.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(60);

/// Deaths of a minute that the log names one by one.
const DEATHS_TO_NAME: u32 = 10;

type Reply<T> = Pin<Box<dyn Future<Output = Result<T, JournalError>> + Send>>;

/// Questions to the journal on their way, at most one of each kind.
#[derive(Default)]
struct Asked {
    settling: Option<Reply<Settled>>,
    due: Option<Reply<Due>>,
    page: Option<Reply<Page>>,
}

/// Sends the journal's events to one endpoint.
pub struct Dispatcher {
    name: Arc<str>,
    journal: Journal,
    endpoint: EndpointId,
    courier: Courier,
    ordering: Ordering,
    schedule: RetrySchedule,
    /// Requests on their way at once, at most.
    slots: usize,
    /// How long a parcel may wait until it is complete.
    max_wait: Duration,
    wanted: Wanted,
    window: Window<Numbered>,
    retries: Retries,
    /// Retries and new events take turns where both want a slot.
    retry_is_next: bool,
    health: Health,
    /// What the log says of deliveries that are dead.
    deaths: Seldom,
    intake: Intake,
    rng: StdRng,
    /// Requests on their way, and the bytes of their events.
    flying: usize,
    flying_bytes: usize,
    /// Since when the next parcel waits to be complete.
    packing_since: Option<Instant>,
    /// Events that were sent in too large a parcel: they do not wait for others.
    hurried: usize,
    /// Since the last settlement.
    attempts: Vec<AttemptRecord>,
    /// When the first outcome since the last settlement came.
    gathering_since: Option<Instant>,
    /// The settlement on its way, should it have to be sent again.
    settlement: Option<Arc<Settlement>>,
    saved_cursor: Seq,
    /// What is saved beside the cursor: how many events up to there were wanted, and whether any is
    /// listed as on its way.
    saved_sequence: u64,
    saved_in_flight: bool,
    /// Up to this one, events are sent once more.
    replay_until: Seq,
    saved_at: Instant,
    looked_at: Instant,
    disabled: bool,
    /// Why, until the journal knows.
    disable: Option<String>,
    /// Whether the settlement on its way says so.
    disabling: bool,
    /// Nothing is asked of the journal before.
    journal_pause: Option<Instant>,
    /// Whether too many records wait behind a failure to take more.
    crowded: bool,
    /// What the wall clock says when the clock of the tests is paused.
    #[cfg(test)]
    wall: Option<(Instant, i64)>,
}

impl Dispatcher {
    /// The endpoint's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the endpoint is disabled (it answered 410): it gets nothing.
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// Sends until it is told to stop. Whoever drops `stop`'s sender has told it to drain.
    ///
    /// What the loop waits for, the more urgent first:
    /// 1. the word to stop,
    /// 2. a settlement that is committed: it releases records and slots,
    /// 3. requests that come back,
    /// 4. retries that are due, from the journal,
    /// 5. a page of events, from the journal,
    /// 6. new events that the endpoint may want,
    /// 7. the host's breaker, which the host's other endpoints may have opened or closed,
    /// 8. the clock: the next retry, the breaker's cool-down, the pace, a parcel that has waited long
    ///    enough, outcomes that have gathered.
    ///
    /// # Errors
    /// The journal cannot be read or written any more.
    pub async fn run(mut self, mut stop: watch::Receiver<Stop>) -> Result<(), DeliveryError> {
        let mut flights = FuturesUnordered::new();
        let mut asked = Asked::default();
        let mut alarm = std::pin::pin!(tokio::time::sleep(LOOK_AROUND_EVERY));
        let mut told = *stop.borrow_and_update();
        let mut unattended = false;
        loop {
            let now = Instant::now();
            if told == Stop::Now {
                return Ok(());
            }
            let sending = told == Stop::Run && !self.disabled;
            if !sending {
                self.leave_stream();
            }
            if sending {
                self.look_around(now);
                while let Some(launch) = self.next_launch(now) {
                    flights.push(self.courier.clone().fly(launch));
                }
            }
            self.ask(&mut asked, now, told);
            if told == Stop::Drain && asked.settling.is_none() && self.is_drained() {
                return Ok(());
            }
            if self.may_rest() {
                self.intake.rest(self.saved_cursor);
            }
            let wake = self.wake_at(now, sending, asked.settling.is_some());
            if alarm.deadline() != wake {
                alarm.as_mut().reset(wake);
            }
            tokio::select! {
                biased;
                // 1
                changed = stop.changed(), if !unattended => {
                    told = *stop.borrow_and_update();
                    if changed.is_err() && told == Stop::Run {
                        told = Stop::Drain;
                    }
                    unattended = changed.is_err();
                }
                // 2
                settled = reply(&mut asked.settling) => {
                    asked.settling = None;
                    self.settled(settled)?;
                }
                // 3
                Some(landing) = flights.next(), if !flights.is_empty() => {
                    self.landed(landing);
                    // Those that came back meanwhile, too, before looking around again.
                    while let Some(Some(landing)) = flights.next().now_or_never() {
                        self.landed(landing);
                    }
                }
                // 4
                found = reply(&mut asked.due) => {
                    asked.due = None;
                    self.found_due(found)?;
                }
                // 5
                found = reply(&mut asked.page) => {
                    asked.page = None;
                    self.found_page(found)?;
                }
                // 6
                () = self.intake.changed(), if sending && self.intake.is_idle() => {
                    self.intake.wake();
                }
                // 7
                () = self.health.host_changed(), if sending => {}
                // 8
                () = alarm.as_mut() => {}
            }
        }
    }

    /// Asks the journal for whatever is wanted of it and not asked yet.
    fn ask(&mut self, asked: &mut Asked, now: Instant, told: Stop) {
        if asked.settling.is_none() && self.wants_to_settle(now, told) {
            asked.settling = Some(self.settle());
        }
        if told != Stop::Run || self.disabled || self.is_paused(now) {
            return;
        }
        if asked.due.is_none() && self.retries.wants_fetch(self.now_ms()) {
            asked.due = Some(self.fetch_due());
        }
        if asked.page.is_none() && self.intake.wants_page() {
            asked.page = Some(self.fetch_page());
        }
    }

    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64 {
        #[cfg(test)]
        if let Some((at, ms)) = self.wall {
            return ms + i64::try_from(at.elapsed().as_millis()).unwrap();
        }
        unix_ms(SystemTime::now())
    }

    /// Now and then the journal is asked what is due even if nothing is expected: retention may
    /// have freed what was blocked.
    fn look_around(&mut self, now: Instant) {
        if now >= self.looked_at + LOOK_AROUND_EVERY {
            self.looked_at = now;
            self.wanted.look_around(now);
            self.retries.due_at(Some(self.now_ms()));
        }
    }

    /// When the loop must look around without being called.
    fn wake_at(&mut self, now: Instant, sending: bool, settling: bool) -> Instant {
        let mut wake = now + LOOK_AROUND_EVERY;
        if sending && self.intake.is_interrupted() && self.may_launch(now) {
            return now;
        }
        if !settling {
            if let Some(since) = self.gathering_since {
                wake = wake.min(since + LINGER);
            } else if self.is_behind() {
                wake = wake.min(self.saved_at + SAVE_CURSOR_EVERY);
            }
        }
        if sending {
            if let Some(due_at) = self.parcel_due_at()
                && self.may_launch(now)
            {
                wake = wake.min(due_at.max(now));
            }
            if let Err(until) = self.health.permit(now) {
                wake = wake.min(until.unwrap_or(wake));
            } else if let Some(due_ms) = self.retries.wakes_at_ms() {
                let wait_ms = due_ms.saturating_sub(self.now_ms()).max(0);
                let wait = Duration::from_millis(wait_ms.unsigned_abs());
                wake = wake.min(now + wait.min(LOOK_AROUND_EVERY));
            }
        }
        match self.journal_pause {
            // Before, nothing is asked of the journal; then, whatever was refused is asked again.
            Some(until) if until > now => until,
            _ => wake,
        }
    }
}

/// Waits for an answer of the journal; forever where none was asked for.
async fn reply<T>(asked: &mut Option<Reply<T>>) -> Result<T, JournalError> {
    match asked {
        Some(reply) => reply.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
