//! Rows that the writers know of, so that several of them work on the same records.

use std::sync::{Mutex, PoisonError};

use rand::Rng;
use rand::rngs::StdRng;

/// How many rows of a table are remembered: few enough that writers meet.
const REMEMBERED: usize = 300;

/// Keys of existing rows, by table.
#[derive(Default)]
pub(super) struct Known {
    pub(super) companies: Pool<i64>,
    pub(super) people: Pool<String>,
    pub(super) opportunities: Pool<i64>,
    pub(super) notes: Pool<i64>,
    pub(super) tasks: Pool<String>,
}

/// A row that a transaction inserted.
pub(super) enum Fresh {
    Company(i64),
    Person(String),
    Opportunity(i64),
    Note(i64),
    Task(String),
}

impl Known {
    /// Remembers a row; its transaction is committed.
    pub(super) fn add(&self, fresh: Fresh, rng: &mut StdRng) {
        match fresh {
            Fresh::Company(id) => self.companies.add(id, rng),
            Fresh::Person(id) => self.people.add(id, rng),
            Fresh::Opportunity(id) => self.opportunities.add(id, rng),
            Fresh::Note(id) => self.notes.add(id, rng),
            Fresh::Task(id) => self.tasks.add(id, rng),
        }
    }
}

/// Keys of one table.
pub(super) struct Pool<K>(Mutex<Vec<K>>);

impl<K> Default for Pool<K> {
    fn default() -> Pool<K> {
        Pool(Mutex::new(Vec::new()))
    }
}

impl<K: Clone> Pool<K> {
    /// Any of them.
    pub(super) fn pick(&self, rng: &mut StdRng) -> Option<K> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!keys.is_empty()).then(|| keys[rng.random_range(0..keys.len())].clone())
    }

    /// Any of them, which nobody else gets from now on.
    pub(super) fn take(&self, rng: &mut StdRng) -> Option<K> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (!keys.is_empty()).then(|| rng.random_range(0..keys.len()))?;
        Some(keys.swap_remove(place))
    }

    fn add(&self, key: K, rng: &mut StdRng) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < REMEMBERED {
            keys.push(key);
        } else {
            let place = rng.random_range(0..keys.len());
            keys[place] = key;
        }
    }
}
