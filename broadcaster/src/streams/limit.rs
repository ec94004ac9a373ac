//! How many streams may run at once, in all and for one owner.
//!
//! A stream counts from its start until it ended or was stopped: while it waits for its
//! publisher, while it is live, and while it is in grace. [`Occupancy`] is the rule;
//! [`Seats`] shares one between tasks and gives each running stream a [`Seat`] that frees itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::id::StreamName;

use crate::resource::limits::SharedLimits;
pub use crate::resource::limits::StreamLimits;

/// The stable code of a refusal, in the API and in logs.
pub const STREAM_LIMIT_EXCEEDED: &str = "STREAM_LIMIT_EXCEEDED";

/// A stream was not started because as many as allowed are running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Maximum {max} concurrent streams reached")]
pub struct LimitReached {
    /// The limit that was reached.
    pub max: usize,
    /// How many of those that it counts are running.
    pub running: usize,
}

/// Which streams run.
#[derive(Clone, Debug, Default)]
pub struct Occupancy {
    running: BTreeMap<StreamName, Running>,
}

#[derive(Clone, Debug)]
struct Running {
    owner: String,
    holders: u32,
}

impl Occupancy {
    /// Counts `stream` of `owner` as running. One that runs already is counted once, however
    /// often it is taken.
    ///
    /// # Errors
    /// When it would be one too many by `limits`, in all or for this owner.
    pub fn take(
        &mut self,
        stream: &StreamName,
        owner: &str,
        limits: StreamLimits,
    ) -> Result<(), LimitReached> {
        if let Some(running) = self.running.get_mut(stream) {
            running.holders += 1;
            return Ok(());
        }
        let StreamLimits { per_user_max, global_max } = limits;
        let of_owner = self.running.values().filter(|running| running.owner == owner).count();
        // The owner's own limit first: it is the one the owner can do something about.
        for (running, max) in [(of_owner, per_user_max), (self.running.len(), global_max)] {
            if running >= max {
                return Err(LimitReached { max, running });
            }
        }
        self.running.insert(stream.clone(), Running { owner: owner.to_owned(), holders: 1 });
        Ok(())
    }

    /// Takes back one [`Occupancy::take`] of `stream`; after the last one it is free.
    pub fn free(&mut self, stream: &StreamName) {
        if let Some(running) = self.running.get_mut(stream) {
            running.holders -= 1;
            if running.holders == 0 {
                self.running.remove(stream);
            }
        }
    }

    /// How many streams run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many streams run, by owner.
    pub fn by_owner(&self) -> BTreeMap<String, usize> {
        self.running.values().fold(BTreeMap::new(), |mut counts, running| {
            *counts.entry(running.owner.clone()).or_default() += 1;
            counts
        })
    }
}

/// One [`Occupancy`] for every task, within limits that may change meanwhile.
#[derive(Clone, Debug)]
pub struct Seats {
    occupancy: Arc<Mutex<Occupancy>>,
    limits: SharedLimits,
}

/// A running stream's place; dropping it frees the place.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    stream: StreamName,
}

impl Seats {
    /// Nothing runs yet.
    pub fn new(limits: impl Into<SharedLimits>) -> Self {
        Self { occupancy: Arc::default(), limits: limits.into() }
    }

    /// As [`Occupancy::take`].
    ///
    /// # Errors
    /// When it would be one too many, in all or for this owner.
    pub fn take(&self, stream: &StreamName, owner: &str) -> Result<Seat, LimitReached> {
        let limits = self.limits.get().streams;
        self.lock().take(stream, owner, limits)?;
        Ok(Seat { seats: self.clone(), stream: stream.clone() })
    }

    /// How many streams run.
    pub fn running(&self) -> usize {
        self.lock().running()
    }

    /// How many streams run, by owner.
    pub fn by_owner(&self) -> BTreeMap<String, usize> {
        self.lock().by_owner()
    }

    fn lock(&self) -> MutexGuard<'_, Occupancy> {
        // Every change is complete before the lock goes, so a panic elsewhere spoils nothing.
        self.occupancy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().free(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::limits::LimitsChange;
    use proptest::prelude::*;

    fn name(text: &str) -> StreamName {
        text.parse().expect("a name")
    }

    #[test]
    fn the_owners_limit_and_the_global_one_are_told_with_their_number() {
        let seats = Seats::new(StreamLimits { per_user_max: 2, global_max: 3 });
        let a = seats.take(&name("a1"), "a").expect("free");
        let _b = seats.take(&name("a2"), "a").expect("free");
        let refused = seats.take(&name("a3"), "a").expect_err("two are running");
        assert_eq!(refused.to_string(), "Maximum 2 concurrent streams reached");
        let _c = seats.take(&name("b1"), "b").expect("another owner");
        let refused = seats.take(&name("b2"), "b").expect_err("three in all");
        assert_eq!(refused.to_string(), "Maximum 3 concurrent streams reached");
        drop(a);
        assert!(seats.take(&name("b2"), "b").is_ok());
    }

    #[test]
    fn a_stream_that_runs_may_be_taken_again_and_counts_once() {
        let seats = Seats::new(StreamLimits { per_user_max: 1, global_max: 1 });
        let first = seats.take(&name("a"), "x").expect("free");
        let again = seats.take(&name("a"), "x").expect("its own place");
        drop(first);
        assert!(seats.take(&name("b"), "x").is_err(), "still held once");
        drop(again);
        assert_eq!(seats.running(), 0);
        assert!(seats.take(&name("b"), "x").is_ok());
    }

    #[test]
    fn a_limit_that_is_lowered_ends_nothing_and_holds_for_the_next_start() {
        let limits = SharedLimits::from(StreamLimits { per_user_max: 9, global_max: 9 });
        let seats = Seats::new(limits.clone());
        let held = ["a", "b", "c"].map(|n| seats.take(&name(n), "x").expect("free"));
        let change = LimitsChange { max_concurrent_streams_global: Some(1), ..Default::default() };
        limits.change(&change).expect("good");
        assert_eq!((seats.running(), seats.by_owner()), (3, [("x".to_owned(), 3)].into()));
        let refused = seats.take(&name("d"), "x").expect_err("beyond the limit");
        assert_eq!(refused, LimitReached { max: 1, running: 3 });
        drop(held);
        assert!(seats.take(&name("d"), "x").is_ok());
    }

    #[test]
    fn concurrent_starts_never_exceed_the_limit() {
        let seats = Seats::new(StreamLimits { per_user_max: 7, global_max: 7 });
        let taken: Vec<_> = std::thread::scope(|scope| {
            let start = |i: u32| {
                let seats = &seats;
                scope.spawn(move || seats.take(&name(&format!("s{i}")), "x").ok())
            };
            let threads: Vec<_> = (0..50).map(start).collect();
            threads.into_iter().filter_map(|t| t.join().expect("no panic")).collect()
        });
        assert_eq!((taken.len(), seats.running()), (7, 7));
    }

    proptest! {
        #[test]
        fn no_script_of_starts_and_ends_exceeds_a_limit(
            script in prop::collection::vec((0..12u8, any::<bool>()), 0..200),
        ) {
            let limits = StreamLimits { per_user_max: 3, global_max: 5 };
            let mut occupancy = Occupancy::default();
            let mut held = [0u32; 12];
            for (i, start) in script {
                let (stream, owner) = (name(&format!("s{i}")), format!("owner{}", i % 3));
                if start {
                    held[usize::from(i)] += u32::from(occupancy.take(&stream, &owner, limits).is_ok());
                } else if held[usize::from(i)] > 0 {
                    held[usize::from(i)] -= 1;
                    occupancy.free(&stream);
                }
                let running = |owner: usize| {
                    (owner..12).step_by(3).filter(|i| held[*i] > 0).count()
                };
                prop_assert!((0..3).all(|owner| running(owner) <= 3));
                prop_assert!(running(0) + running(1) + running(2) <= 5);
                prop_assert_eq!(occupancy.running(), running(0) + running(1) + running(2));
            }
        }
    }
}
