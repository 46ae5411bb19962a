//! Delivery: one dispatcher per endpoint.
