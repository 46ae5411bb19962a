//! Connecting to a real server in every way there is, and streaming from it.

mod connecting;
mod fixture;
mod streaming;
