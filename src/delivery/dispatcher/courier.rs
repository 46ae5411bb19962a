//! Requests as they go out and come back.

use super::*;

use crate::delivery::host::Ticket;

/// A request to be sent.
pub(super) struct Launch {
    pub(super) parcel: Parcel,
    /// Which try this is for each of its events; empty where it is the first of all.
    pub(super) tries: Vec<u32>,
    /// Whether its events have rows of their own in the journal.
    pub(super) parked: bool,
    pub(super) bytes: usize,
    pub(super) ticket: Ticket,
}

/// One that came back.
pub(super) struct Landing {
    pub(super) launch: Launch,
    pub(super) attempt: Attempt,
}

/// Who makes the requests.
#[derive(Clone)]
pub(super) enum Courier {
    Http(Arc<Sender>),
    #[cfg(test)]
    Scripted(Script),
}

/// Answers requests without a network.
#[cfg(test)]
pub(super) type Script =
    Arc<dyn Fn(Parcel) -> Pin<Box<dyn Future<Output = Attempt> + Send>> + Send + Sync>;

impl Courier {
    pub(super) async fn fly(self, launch: Launch) -> Landing {
        let attempt = match self {
            Courier::Http(sender) => sender.attempt(&launch.parcel).await,
            #[cfg(test)]
            Courier::Scripted(script) => script(launch.parcel.clone()).await,
        };
        Landing { launch, attempt }
    }
}
