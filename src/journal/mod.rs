//! The journal: the one durable thing.
