//! The tables in force, which a new configuration may replace while the daemon runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::capture::RowFilters;
use crate::config::TableConfig;
use crate::event::TableRule;

/// The tables in force. Capture's sink asks with every transaction whether they are still the same,
/// so that costs no lock.
#[derive(Debug)]
pub(super) struct Tables {
    tables: Mutex<Vec<TableConfig>>,
    generation: AtomicU64,
    filters: Arc<RowFilters>,
}

impl Tables {
    pub(super) fn new(tables: Vec<TableConfig>) -> Tables {
        let filters = tables.iter().map(TableConfig::row_filter).collect();
        Tables {
            tables: Mutex::new(tables),
            generation: AtomicU64::new(0),
            filters: Arc::new(RowFilters::new(filters)),
        }
    }

    /// Puts these in the place of all others; says whether they are others.
    pub(super) fn replace(&self, tables: Vec<TableConfig>) -> bool {
        let mut current = self.lock();
        if *current == tables {
            return false;
        }
        self.filters.replace(tables.iter().map(TableConfig::row_filter).collect());
        *current = tables;
        self.generation.fetch_add(1, Ordering::Release);
        true
    }

    /// Another number whenever there are other tables.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn rules(&self) -> Vec<TableRule> {
        self.lock().iter().map(|table| table.rule.clone()).collect()
    }

    pub(super) fn configured(&self) -> Vec<TableConfig> {
        self.lock().clone()
    }

    pub(super) fn filters(&self) -> &Arc<RowFilters> {
        &self.filters
    }

    fn lock(&self) -> MutexGuard<'_, Vec<TableConfig>> {
        // Every change is complete before the lock is let go, so a panic elsewhere spoils nothing.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
