//! Commands: one file each.
pub mod demo;
