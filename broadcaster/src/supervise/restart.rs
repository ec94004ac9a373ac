//! When a worker may start again. Pure: it counts crashes and says "then" or "no more".
//!
//! The first restart comes quickly because most crashes are single ones and viewers hold two or
//! three seconds of media; after that the pause doubles so that a broken source does not eat the
//! machine, and a burst of crashes opens a breaker that only an operator closes.

use std::collections::VecDeque;

use super::now::Now;

/// Pause before the first restart, in ms: hls.md asks for a restart within 1 s, and this leaves
/// 800 ms of it to the process's own start.
pub const FIRST_PAUSE_MS: u64 = 200;
/// Pause before the second restart, in ms; it doubles from here (hls.md).
pub const PAUSE_MIN_MS: u64 = 1_000;
/// Longest pause between restarts, in ms (hls.md).
pub const PAUSE_MAX_MS: u64 = 30_000;
/// A worker that made media for this long has proven itself: crashes before it are forgotten.
pub const STABLE_MS: u64 = 60_000;
/// This many crashes ...
pub const CRASHES_MAX: usize = 5;
/// ... within this time, in ms, open the breaker (hls.md).
pub const CRASH_WINDOW_MS: u64 = 120_000;
/// Shortest time between the starts of two workers of which the first did its work but the source
/// changed, or refused its input, in ms: a source that changes with every frame costs one process
/// per second, not one per frame.
pub const START_SPACING_MS: u64 = 1_000;
/// Pause before another worker starts where this machine lacked what the last one needed, in ms:
/// other streams give encoders back within seconds or not for long, and each try is a process.
pub const LACK_PAUSE_MS: u64 = 5_000;

/// What to do about a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start again at this moment.
    Retry {
        /// The moment.
        at: Now,
    },
    /// Too many crashes: wait for an operator.
    Broken,
}

/// The memory of one stream's crashes.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    /// Moments of the latest crashes, at most [`CRASHES_MAX`].
    crashes: VecDeque<Now>,
    /// Crashes in a row without a stable worker between them.
    in_a_row: u32,
    not_before: Now,
    last_start: Now,
}

impl Restarts {
    /// Forgets everything: a new broadcast, or an operator's start.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Notes that a worker starts now.
    pub fn started(&mut self, now: Now) {
        self.last_start = now;
    }

    /// The earliest moment, not before `now`, at which a worker may start.
    pub fn earliest(&self, now: Now) -> Now {
        self.not_before.max(now)
    }

    /// A worker crashed after making media for `stable_ms` (0 when it never got that far).
    pub fn crashed(&mut self, now: Now, stable_ms: u64) -> Verdict {
        if stable_ms >= STABLE_MS {
            self.crashes.clear();
            self.in_a_row = 0;
        }
        while self.crashes.front().is_some_and(|at| now.since(*at) > CRASH_WINDOW_MS) {
            self.crashes.pop_front();
        }
        self.crashes.push_back(now);
        if self.crashes.len() >= CRASHES_MAX {
            return Verdict::Broken;
        }
        let pause = match self.in_a_row {
            0 => FIRST_PAUSE_MS,
            // The shift is bounded because the pause is: 2^5 s is over 30 s already.
            n => (PAUSE_MIN_MS << (n - 1).min(5)).min(PAUSE_MAX_MS),
        };
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.not_before = now.plus(pause);
        Verdict::Retry { at: self.not_before }
    }

    /// The source changed under a worker that was well, so a new one is due: at once, unless the
    /// last one started only just now. No crash is counted.
    pub fn changed(&mut self, now: Now) -> Now {
        self.not_before = self.last_start.plus(START_SPACING_MS).max(now);
        self.not_before
    }

    /// This machine lacked what a worker needs, which it may have again. No crash is counted.
    pub fn lacked(&mut self, now: Now) -> Now {
        self.not_before = now.plus(LACK_PAUSE_MS);
        self.not_before
    }

    /// A pushed source was refused for its input: the publisher may come back with another, but
    /// not in a tight loop. No crash is counted, because the stream is not at fault.
    pub fn refused_input(&mut self, now: Now) {
        self.not_before = now.plus(START_SPACING_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses in ms that crashes cause when every worker lives for `lives_ms`.
    fn pauses(lives_ms: u64, crashes: usize) -> Vec<Option<u64>> {
        let (mut restarts, mut now) = (Restarts::default(), Now(0));
        (0..crashes)
            .map(|_| {
                now = now.plus(lives_ms);
                match restarts.crashed(now, 0) {
                    Verdict::Retry { at } => {
                        let pause = at.since(now);
                        now = at;
                        Some(pause)
                    }
                    Verdict::Broken => None,
                }
            })
            .collect()
    }

    #[test]
    fn a_single_crash_is_repaired_well_within_a_second() {
        assert_eq!(pauses(0, 1), [Some(FIRST_PAUSE_MS)]);
        const { assert!(FIRST_PAUSE_MS < 1_000) };
    }

    #[test]
    fn the_fifth_crash_in_two_minutes_breaks() {
        assert_eq!(pauses(0, 5), [Some(200), Some(1_000), Some(2_000), Some(4_000), None]);
        // 40 s apart there are never five in the window, and the pause stops growing at 30 s.
        assert_eq!(
            pauses(40_000, 8),
            [200, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].map(Some)
        );
    }

    #[test]
    fn a_stable_minute_forgets_the_crashes_before_it() {
        let mut restarts = Restarts::default();
        for at in [0, 1, 2, 3] {
            restarts.crashed(Now(at), 0);
        }
        let late = Now(70_000);
        assert_eq!(
            restarts.crashed(late, STABLE_MS),
            Verdict::Retry { at: late.plus(FIRST_PAUSE_MS) }
        );
    }

    #[test]
    fn a_changed_source_starts_at_once_but_at_most_once_a_second() {
        let mut restarts = Restarts::default();
        restarts.started(Now(10_000));
        assert_eq!(restarts.changed(Now(60_000)), Now(60_000));
        restarts.started(Now(60_000));
        assert_eq!(restarts.changed(Now(60_100)), Now(61_000));
    }
}
