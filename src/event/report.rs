//! What walhook tells about itself, as events that are delivered like any other.

use super::id::EventId;

/// Something an operator may want to be told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Report {
    /// `walhook.endpoint.disabled`
    EndpointDisabled {
        /// Its name.
        endpoint: String,
        /// Why, in a sentence.
        reason: String,
    },
    /// `walhook.endpoint.failing`: nothing but failures for a while.
    EndpointFailing {
        /// Its name.
        endpoint: String,
        /// The last failure.
        error: String,
        /// When the first of them ended, milliseconds since the Unix epoch.
        since_ms: i64,
    },
    /// `walhook.endpoint.recovered`: it accepts events again after that.
    EndpointRecovered {
        /// Its name.
        endpoint: String,
        /// When the first failure ended, milliseconds since the Unix epoch.
        since_ms: i64,
    },
    /// `walhook.delivery.dead`
    DeliveryDead {
        /// The endpoint's name.
        endpoint: String,
        /// The event.
        id: EventId,
        /// Its name.
        event: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        error: String,
    },
    /// `walhook.slot.lag`: the server keeps much log for the slot.
    SlotLag {
        /// The slot.
        slot: String,
        /// Bytes of log that the server keeps for it.
        retained_bytes: u64,
        /// From how many bytes on this is said.
        limit_bytes: u64,
        /// Whether it is below the limit again.
        recovered: bool,
    },
    /// `walhook.gap`: events that will not be delivered.
    Gap {
        /// The endpoint that lacks them; all where it is `None`.
        endpoint: Option<String>,
        /// How many, where that is known.
        events: Option<u64>,
        /// Why, in a sentence.
        reason: String,
    },
}
