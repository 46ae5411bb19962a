//! `walhook demo`
mod actions;
mod envelope;
mod known;
mod ledger;
mod paint;
mod session;
mod tally;
mod traffic;
mod words;
