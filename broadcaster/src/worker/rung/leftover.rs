//! Encoders that were given up and are not gone yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts them. Each may keep a thread, its pictures and a session of its device: one that works is
/// gone within milliseconds, one that hangs never.
#[derive(Clone, Debug, Default)]
pub struct Leftovers(Arc<AtomicU32>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Leftover(Arc<AtomicU32>);

impl Leftovers {
    /// One more.
    pub fn add(&self) -> Leftover {
        self.0.fetch_add(1, Ordering::Relaxed);
        Leftover(Arc::clone(&self.0))
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
