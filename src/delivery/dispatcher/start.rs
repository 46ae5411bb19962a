//! Starting a dispatcher where the last one ended, however it ended.

use super::*;

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
    ) -> Result<Dispatcher, DeliveryError> {
        let named = |error: DeliveryError| error.of(&options.name);
        let sender = Sender::new(&options).map_err(named)?;
        let state = journal
            .register_endpoint(&options.name, options.start)
            .await
            .map_err(|error| named(DeliveryError::journal(error)))?;
        // Before anything is read: what comes later wakes the loop.
        let watcher = journal.tail().watch();
        let in_flight = journal
            .load(&state.in_flight.iter().map(|listed| listed.seq).collect::<Vec<_>>())
            .await
            .map_err(|error| named(DeliveryError::journal(error)))?;
        let mut window =
            Window::new(options.ordering, state.cursor, &state.parked, state.next_due_ms.is_some());
        for event in in_flight {
            // One that is no longer wanted is left out of the next settlement, and thereby done.
            if options.filter.matches(&event.name) {
                window.take(event.seq, event.lanes, event.body.len(), event);
            }
        }
        if let Some(reason) = &state.disabled {
            tracing::warn!(endpoint = options.name, reason, "the endpoint is disabled");
        }
        Ok(Dispatcher {
            name: Arc::from(options.name.as_str()),
            journal,
            endpoint: state.endpoint,
            sender: Arc::new(sender),
            filter: options.filter,
            schedule: options.retry,
            slots: match options.ordering {
                Ordering::Strict => 1,
                Ordering::Record | Ordering::None => options.concurrency.max(1),
            },
            window,
            retries: Retries::new(state.next_due_ms),
            retry_is_next: true,
            breaker: Breaker::new(),
            intake: Intake::default(),
            watcher,
            rng: StdRng::from_os_rng(),
            attempts: Vec::new(),
            gathering_since: None,
            settlement: None,
            saved_cursor: state.cursor,
            saved_at: Instant::now(),
            looked_at: Instant::now(),
            disabled: state.disabled.is_some(),
            disable: None,
            disabling: false,
            journal_pause: None,
            complained_at: None,
            failures_unsaid: 0,
            crowded: false,
        })
    }
}
