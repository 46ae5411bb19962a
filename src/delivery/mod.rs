//! Delivery: one dispatcher per endpoint takes events from the journal, in order where order is
//! wanted, sends each as a signed HTTP request, retries what failed, and writes down what came of
//! it. It knows the journal's sequence numbers and never a log position of Postgres.
//!
//! - [`dispatcher`]: the loop, and the state of what is on its way, which is plain data.
//! - `attempt`: one HTTP request and what it means; `client`: what it is sent with; `guard`: which
//!   addresses it may go to.
//! - [`retry`]: when to try again; `host`: when to stop trying for a while; `pace`: how fast, as the
//!   endpoint's options and its answers (`steering`) have it.
//! - [`signature`]: signing requests, and verifying them as a receiver would.

mod attempt;
mod client;
pub mod dispatcher;
mod endpoint;
mod error;
mod guard;
mod host;
mod pace;
#[cfg(test)]
mod receiver;
pub mod retry;
pub mod signature;
mod steering;

pub use client::install_crypto_provider;
pub(crate) use client::{basic_authorization, tls_config};
pub use dispatcher::{Dispatcher, Stop};
pub use endpoint::{
    BatchOptions, EndpointOptions, EndpointTls, Networks, Ordering, RateLimit, UnknownOrdering,
};
pub use error::DeliveryError;
pub use guard::{Refusal, is_public};
pub use host::{BreakerOptions, Hosts};
pub use retry::{InvalidSchedule, RetrySchedule};
pub use signature::{
    DEFAULT_TOLERANCE, Scheme, SignatureError, Signer, Verifier, VerifyError, generate_secret,
};
