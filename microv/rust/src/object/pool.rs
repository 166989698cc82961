//! Pools: IDs and the objects behind them.
//!
//! IDs are dense and the lowest free one is given first, so they are reused after destruction. A
//! look-up locks only its own slot, for the time of one reference-count increment.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The free IDs of one kind of object.
#[derive(Debug)]
pub struct Ids {
    free: Mutex<BTreeSet<u16>>,
    range: Range<u16>,
}

impl Ids {
    /// IDs of `range`, all free.
    pub fn new(range: Range<u16>) -> Ids {
        Ids { free: Mutex::new(range.clone().collect()), range }
    }

    /// The lowest free ID, taken.
    pub fn take(&self) -> Option<u16> {
        self.lock().pop_first()
    }

    /// Gives an ID back.
    ///
    /// # Panics
    /// Where it was not taken.
    pub fn give_back(&self, id: u16) {
        let was_taken = self.range.contains(&id) && self.lock().insert(id);
        assert!(was_taken, "ID {id:#x} was not taken");
    }

    /// Whether the ID is taken now.
    pub fn is_taken(&self, id: u16) -> bool {
        self.range.contains(&id) && !self.lock().contains(&id)
    }

    /// How many IDs are taken.
    pub fn taken(&self) -> usize {
        self.range.len() - self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        // Each use leaves the set whole, so a panic elsewhere in a caller spoils nothing.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Objects by ID.
#[derive(Debug)]
pub struct Pool<T> {
    ids: Ids,
    slots: Box<[RwLock<Option<Arc<T>>>]>,
}

impl<T> Pool<T> {
    /// A pool which gives the IDs of `range`.
    pub fn new(range: Range<u16>) -> Pool<T> {
        let slots = (0..range.end).map(|_| RwLock::new(None)).collect();
        Pool { ids: Ids::new(range), slots }
    }

    /// Makes an object under a new ID. `None` when the pool is exhausted.
    pub fn create(&self, make: impl FnOnce(u16) -> T) -> Option<Arc<T>> {
        let lease = Lease { ids: &self.ids, id: self.ids.take()? };
        let object = Arc::new(make(lease.id));
        self.put(lease.id, Some(Arc::clone(&object)));
        std::mem::forget(lease);
        Some(object)
    }

    /// The object, where the ID has one.
    pub fn get(&self, id: u16) -> Option<Arc<T>> {
        let slot = self.slots.get(usize::from(id))?;
        slot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the object and frees its ID. Who already holds a reference keeps the object alive, but
    /// no longer reachable.
    ///
    /// # Panics
    /// Where the ID has no object.
    pub fn remove(&self, id: u16) {
        self.put(id, None);
        self.ids.give_back(id);
    }

    fn put(&self, id: u16, object: Option<Arc<T>>) {
        *self.slots[usize::from(id)].write().unwrap_or_else(PoisonError::into_inner) = object;
    }
}

/// An ID taken for an object that is not there yet; given back if making it panics.
struct Lease<'a> {
    ids: &'a Ids,
    id: u16,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.ids.give_back(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_id_is_given_and_reused() {
        let pool = Pool::new(3..6);
        let ids: Vec<u16> = (0..3).map(|_| *pool.create(|id| id).unwrap()).collect();
        assert_eq!(ids, [3, 4, 5]);
        assert!(pool.create(|id| id).is_none());
        pool.remove(4);
        assert_eq!(pool.create(|id| id).as_deref(), Some(&4));
    }

    #[test]
    fn ids_outside_the_range_have_no_object() {
        let pool: Pool<u16> = Pool::new(3..6);
        for id in [0, 2, 3, 6, 0xFFFE, 0xFFFF] {
            assert!(pool.get(id).is_none());
        }
    }

    #[test]
    fn an_id_whose_object_could_not_be_made_is_free_again() {
        let pool: Pool<u16> = Pool::new(0..1);
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.create(|_| panic!("no object"))
        }));
        assert!(made.is_err());
        assert!(pool.create(|id| id).is_some());
    }

    #[test]
    #[should_panic(expected = "was not taken")]
    fn removing_twice_is_a_bug() {
        let pool = Pool::new(0..2);
        pool.create(|id| id);
        pool.remove(0);
        pool.remove(0);
    }
}
