//! Starting a dispatcher where the last one ended, however it ended.

use super::*;

use crate::delivery::endpoint::BatchOptions;
use crate::delivery::pace::Pace;
use crate::journal::{EndpointState, StoredEvent};

use window::{Beginning, Limits};

impl Dispatcher {
    /// A dispatcher that goes on where the journal says: first with what was on its way when the
    /// last one ended, then with what follows in the stream.
    ///
    /// # Errors
    /// The options cannot work ([`is_configuration`](DeliveryError::is_configuration)), or the
    /// journal cannot be read.
    pub async fn start(
        options: EndpointOptions,
        journal: Journal,
        hosts: &Hosts,
    ) -> Result<Dispatcher, DeliveryError> {
        let sender = Sender::new(&options).map_err(|error| error.of(&options.name))?;
        Dispatcher::with(options, journal, hosts, Courier::Http(Arc::new(sender))).await
    }

    pub(super) async fn with(
        options: EndpointOptions,
        journal: Journal,
        hosts: &Hosts,
        courier: Courier,
    ) -> Result<Dispatcher, DeliveryError> {
        let named = |error: JournalError| DeliveryError::journal(error).of(&options.name);
        let state = journal.register_endpoint(&options.name, options.start).await.map_err(named)?;
        let listed: Vec<Seq> = state.in_flight.iter().map(|listed| listed.seq).collect();
        let in_flight = journal.load(&listed).await.map_err(named)?;
        let name: Arc<str> = Arc::from(options.name.as_str());
        let slots = match options.ordering {
            Ordering::Strict => 1,
            Ordering::Record | Ordering::None => options.concurrency.max(1),
        };
        let intake = match &state.disabled {
            None => Intake::new(journal.tail(), state.endpoint, &options.filter, state.cursor),
            Some(_) => Intake::default(),
        };
        let mut wanted = Wanted::new(&name, options.filter, options.when);
        if let Some(replay) = &state.replay {
            wanted.again(replay);
        }
        let window = window(&options.batch, options.ordering, &state, &wanted, in_flight);
        let pace = Pace::new(options.rate_limit, slots);
        let host = hosts.of(&options.url);
        let mut health =
            Health::new(Arc::clone(&name), journal.clone(), host, pace, options.disable_after);
        health.failing_since(state.failing_since_ms, state.failing_told);
        if let Some(reason) = &state.disabled {
            tracing::warn!(endpoint = &*name, reason, "the endpoint is disabled");
        }
        Ok(Dispatcher {
            name,
            journal,
            endpoint: state.endpoint,
            courier,
            ordering: options.ordering,
            schedule: options.retry,
            slots,
            max_wait: options.batch.max_wait,
            wanted,
            window,
            retries: Retries::new(options.ordering == Ordering::Strict, state.next_due_ms),
            retry_is_next: true,
            health,
            deaths: Seldom::new(DEATHS_TO_NAME),
            intake,
            rng: StdRng::from_os_rng(),
            flying: 0,
            flying_bytes: 0,
            packing_since: None,
            hurried: 0,
            attempts: Vec::new(),
            gathering_since: None,
            settlement: None,
            saved_cursor: state.cursor,
            saved_sequence: state.sequence,
            saved_in_flight: !state.in_flight.is_empty(),
            replay_until: state.replay.as_ref().map_or(Seq(0), |replay| replay.until),
            saved_at: Instant::now(),
            looked_at: Instant::now(),
            disabled: state.disabled.is_some(),
            disable: None,
            disabling: false,
            journal_pause: None,
            crowded: false,
            #[cfg(test)]
            wall: None,
        })
    }
}

/// The window, with what was on its way when the last dispatcher ended.
fn window(
    batch: &BatchOptions,
    ordering: Ordering,
    state: &EndpointState,
    wanted: &Wanted,
    in_flight: Vec<StoredEvent>,
) -> Window<Numbered> {
    let limits = Limits { events: batch.max_events.max(1), bytes: batch.max_bytes.max(1) };
    let beginning = Beginning {
        cursor: state.cursor,
        sequence: state.sequence,
        replay_until: state.replay.as_ref().map_or(Seq(0), |replay| replay.until),
        parked: &state.parked,
        any_waiting: state.next_due_ms.is_some(),
    };
    let mut window = Window::new(ordering, limits, beginning);
    let mut listed = state.in_flight.iter();
    for event in in_flight {
        // In the same order; those that retention took are left out.
        let Some(&listed) = listed.find(|listed| listed.seq == event.seq) else { break };
        // One that is no longer wanted is left out of the next settlement, and thereby done.
        if wanted.name(&event.name) {
            let (lanes, bytes) = (event.lanes, event.body.len());
            let sequence = listed.sequence;
            window.restore(listed, lanes, bytes, Numbered { event, sequence });
        }
    }
    window
}
