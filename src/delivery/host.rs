//! The circuit breaker of a host: when most of what is sent to it fails, nothing is sent for a
//! while; then one request tries whether it is back.
//!
//! It belongs to the host and not to an endpoint, for it is the host that is down: several
//! endpoints of one learn of it together, and together send it one probe, not one each. While it is
//! open nothing is sent, so no delivery uses up an attempt of its schedule.
//!
//! What can be looked at without a clock is [`Breaker`], plain data; [`Host`] is what dispatchers
//! share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use super::attempt::HostAnswer;

use breaker::Breaker;
pub use breaker::BreakerOptions;
pub(super) use breaker::{Permit, Turn};

mod breaker;

/// The hosts that requests go to, each with its breaker.
#[derive(Clone, Debug)]
pub struct Hosts {
    options: BreakerOptions,
    known: Arc<Mutex<HashMap<Name, Weak<Shared>>>>,
}

/// The host's name and port: two receivers on one machine fail one by one.
type Name = (String, u16);

impl Hosts {
    /// None yet; each gets a breaker with these options.
    pub fn new(options: BreakerOptions) -> Hosts {
        Hosts { options, known: Arc::default() }
    }

    /// The host of a URL, the same one for all endpoints there. It is forgotten with the last of
    /// them.
    pub(super) fn of(&self, url: &Url) -> Host {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
        let name = (host, url.port_or_known_default().unwrap_or_default());
        let mut known = lock(&self.known);
        known.retain(|_, host| host.strong_count() > 0);
        let shared = known.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let shared = Arc::new(Shared {
                breaker: Mutex::new(Breaker::new(self.options)),
                changes: watch::Sender::new(()),
            });
            known.insert(name, Arc::downgrade(&shared));
            shared
        });
        let changes = shared.changes.subscribe();
        Host { shared, changes }
    }
}

/// One endpoint's view of its host.
#[derive(Debug)]
pub(super) struct Host {
    shared: Arc<Shared>,
    changes: watch::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    breaker: Mutex<Breaker>,
    /// Tells those who wait that the breaker opened or closed, or that the probe's place is free.
    changes: watch::Sender<()>,
}

impl Host {
    /// What may be sent now. Takes nothing.
    pub(super) fn permit(&self, now: Instant) -> Permit {
        lock(&self.shared.breaker).permit(now)
    }

    /// Leave to send one request now; `None` where another dispatcher took the probe's place since
    /// [`permit`](Host::permit) was asked, or the host was left alone meanwhile. To be asked with
    /// the request at hand: giving a probe's place back wakes everyone who waits for it.
    pub(super) fn try_start(&self, now: Instant) -> Option<Ticket> {
        let (round, probe) = lock(&self.shared.breaker).try_start(now)?;
        Some(Ticket { round, place: probe.then(|| Arc::clone(&self.shared)) })
    }

    /// The request of that ticket is over.
    pub(super) fn landed(&self, mut ticket: Ticket, answer: HostAnswer, now: Instant) -> Turn {
        let probe = ticket.place.take().is_some();
        let turn = lock(&self.shared.breaker).landed(ticket.round, probe, answer, now);
        if probe || turn != Turn::Unchanged {
            self.shared.changes.send_replace(());
        }
        turn
    }

    /// Returns when the breaker has opened or closed, or the probe's place has become free, since
    /// the last time this returned.
    pub(super) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Leave to send one request. Dropped without [landing](Host::landed), it leaves no trace: if it was
/// the probe's, another may take its place.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Between which turns of the breaker it was given.
    round: u64,
    /// Whose probe it is, if it is one.
    place: Option<Arc<Shared>>,
}

impl Ticket {
    /// Whether the request decides if the breaker closes.
    #[cfg(test)]
    fn is_probe(&self) -> bool {
        self.place.is_some()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(host) = self.place.take() {
            lock(&host.breaker).abandoned(self.round);
            host.changes.send_replace(());
        }
    }
}

/// What is behind it is changed in one step, so it is whole even if a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
