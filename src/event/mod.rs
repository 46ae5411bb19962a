//! Events: what a change means to a receiver. Names, rules, JSON rendering, ids, filters. Pure
//! functions without I/O and without a clock.

pub mod batch;
mod columns;
mod envelope;
pub mod filter;
pub mod id;
mod lanes;
mod message;
mod names;
mod plan;
mod render;
pub mod rules;

pub use batch::{Event, EventBatch, Lanes};
pub use filter::{EventFilter, InvalidPattern};
pub use id::EventId;
pub use names::is_record;
pub use rules::{Case, Columns, EventRules, RuleError, RulesOptions, TableRule};
