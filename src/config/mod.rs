//! The configuration: raw, as written, becomes ready, checked and built.
