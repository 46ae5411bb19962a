//! The dispatchers' keepers: each runs the dispatcher of one endpoint, and can make it stand still
//! for a moment while what the journal says of the endpoint is changed.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::JoinHandle;
use tracing::{error, warn};

use crate::delivery::{DeliveryError, Dispatcher, EndpointOptions, Hosts, Stop};
use crate::journal::Journal;

use super::error::DaemonError;

/// What a request in flight may take beyond its timeout before a standstill breaks it off.
const STANDSTILL_GRACE: Duration = Duration::from_secs(2);
/// Between attempts to start a dispatcher again while the journal cannot be read or written.
const RESTART_EVERY: Duration = Duration::from_secs(1);

/// All dispatchers.
pub(super) struct Dispatchers {
    stop: channel::Sender<Stop>,
    tasks: FuturesUnordered<JoinHandle<Result<(), DeliveryError>>>,
    handles: Handles,
}

/// How to make them stand still, one by one. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Handles(HashMap<String, mpsc::Sender<Request>>);

/// Keeps a dispatcher from working until it is dropped.
pub(super) struct Standstill {
    _go_on: oneshot::Sender<()>,
}

/// Somebody wants the dispatcher to stand still, and is told once it does.
type Request = oneshot::Sender<Standstill>;

struct Keeper {
    options: EndpointOptions,
    journal: Journal,
    hosts: Hosts,
    /// The daemon's own word.
    stop: channel::Receiver<Stop>,
    /// Nobody is there any more to say it.
    gone: bool,
    requests: mpsc::Receiver<Request>,
}

impl Dispatchers {
    pub(super) async fn start(
        endpoints: Vec<EndpointOptions>,
        journal: &Journal,
        hosts: &Hosts,
    ) -> Result<Dispatchers, DaemonError> {
        let stop = channel::Sender::new(Stop::Run);
        let tasks = FuturesUnordered::new();
        let mut handles = HashMap::new();
        for options in endpoints {
            let dispatcher = Dispatcher::start(options.clone(), journal.clone(), hosts).await?;
            let (handle, requests) = mpsc::channel(1);
            handles.insert(options.name.clone(), handle);
            let keeper = Keeper {
                options,
                journal: journal.clone(),
                hosts: hosts.clone(),
                stop: stop.subscribe(),
                gone: false,
                requests,
            };
            tasks.push(tokio::spawn(keeper.run(dispatcher)));
        }
        Ok(Dispatchers { stop, tasks, handles: Handles(handles) })
    }

    pub(super) fn handles(&self) -> Handles {
        self.handles.clone()
    }

    pub(super) fn stop(&self, stop: Stop) {
        self.stop.send_replace(stop);
    }

    /// The first error of a dispatcher; never ready as long as all is well.
    pub(super) async fn failed(&mut self) -> DaemonError {
        while let Some(ended) = self.tasks.next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.into(),
                Err(panic) => return DaemonError::internal(format!("a dispatcher: {panic}")),
            }
        }
        std::future::pending().await
    }

    /// Waits until all have ended; errors at this point are logged only.
    pub(super) async fn drained(&mut self) {
        while let Some(ended) = self.tasks.next().await {
            if let Ok(Err(problem)) = ended {
                error!("{problem}");
            }
        }
    }
}

impl Handles {
    /// Whether this endpoint is one of the daemon's.
    pub(super) fn has(&self, endpoint: &str) -> bool {
        self.0.contains_key(endpoint)
    }

    /// The daemon's endpoints.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Waits until the endpoint's dispatcher stands still. `None` where the daemon has none of that
    /// name, or is stopping.
    pub(super) async fn stand_still(&self, endpoint: &str) -> Option<Standstill> {
        let (request, standing) = oneshot::channel();
        self.0.get(endpoint)?.send(request).await.ok()?;
        standing.await.ok()
    }
}

impl Keeper {
    async fn run(mut self, mut dispatcher: Dispatcher) -> Result<(), DeliveryError> {
        loop {
            let Some(request) = self.run_until_asked(dispatcher).await? else { return Ok(()) };
            let (go_on, told) = oneshot::channel();
            // Whoever asked may have gone: then it goes on at once.
            let _ = request.send(Standstill { _go_on: go_on });
            tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop != Stop::Run) => return Ok(()),
                _ = told => {}
            }
            match self.start_again().await? {
                Some(started) => dispatcher = started,
                None => return Ok(()),
            }
        }
    }

    /// Runs a dispatcher until somebody wants it to stand still, which it does by then; `None` when
    /// it ended otherwise.
    async fn run_until_asked(
        &mut self,
        dispatcher: Dispatcher,
    ) -> Result<Option<Request>, DeliveryError> {
        let own = channel::Sender::new(Stop::Run);
        let mut running = std::pin::pin!(dispatcher.run(own.subscribe()));
        let request = loop {
            tokio::select! {
                biased;
                ended = &mut running => return ended.map(|()| None),
                told = changed(&mut self.stop, &mut self.gone) => {
                    own.send_replace(told);
                    if told == Stop::Now {
                        return running.await.map(|()| None);
                    }
                }
                Some(request) = self.requests.recv() => {
                    if *own.borrow() == Stop::Run {
                        break request;
                    }
                }
            }
        };
        own.send_replace(Stop::Drain);
        let limit = tokio::time::sleep(self.options.timeout + STANDSTILL_GRACE);
        let mut limit = std::pin::pin!(limit);
        loop {
            tokio::select! {
                biased;
                ended = &mut running => {
                    ended?;
                    break;
                }
                told = changed(&mut self.stop, &mut self.gone) => {
                    if told == Stop::Now {
                        own.send_replace(Stop::Now);
                    }
                }
                () = &mut limit, if *own.borrow() == Stop::Drain => {
                    warn!(
                        endpoint = self.options.name,
                        "requests were still in flight when an order was to be carried out; their \
                         events are sent again"
                    );
                    own.send_replace(Stop::Now);
                }
            }
        }
        let stopping = self.gone || *self.stop.borrow() != Stop::Run;
        Ok((!stopping).then_some(request))
    }

    /// A dispatcher that goes on where the journal says; `None` when the daemon stops meanwhile.
    async fn start_again(&mut self) -> Result<Option<Dispatcher>, DeliveryError> {
        loop {
            let (options, journal) = (self.options.clone(), self.journal.clone());
            let error = match Dispatcher::start(options, journal, &self.hosts).await {
                Ok(dispatcher) => return Ok(Some(dispatcher)),
                Err(error) if error.is_retryable() => error,
                Err(error) => return Err(error),
            };
            warn!("trying again: {error}");
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop != Stop::Run) => return Ok(None),
                () = tokio::time::sleep(RESTART_EVERY) => {}
            }
        }
    }
}

/// The next word. Whoever is gone has said to drain, once.
async fn changed(stop: &mut channel::Receiver<Stop>, gone: &mut bool) -> Stop {
    if *gone {
        return std::future::pending().await;
    }
    match stop.changed().await {
        Ok(()) => *stop.borrow_and_update(),
        Err(_) => {
            *gone = true;
            Stop::Drain
        }
    }
}
