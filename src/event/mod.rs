//! Events: what a change means to a receiver. Names, rules, JSON rendering, ids, filters. Pure
//! functions without I/O and without a clock.

pub mod batch;
pub mod id;

pub use batch::{Event, EventBatch, Lanes};
pub use id::EventId;
