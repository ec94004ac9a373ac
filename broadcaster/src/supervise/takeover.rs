//! Whether a newcomer may take a stream from a publisher that still looks connected. Pure.
//!
//! The newest wins, because an encoder that lost its network comes back long before TCP notices
//! that the old connection is dead. Two encoders that hold the same key would throw each other
//! out for ever, though, and every turn costs viewers a discontinuity: so the third take-over in
//! half a minute is refused and whoever is on the air stays.

use std::collections::VecDeque;

use super::now::Now;

/// Take-overs allowed ...
pub const TAKEOVERS_MAX: usize = 2;
/// ... within this time, in ms (hls.md).
pub const TAKEOVER_WINDOW_MS: u64 = 30_000;

/// The memory of one stream's take-overs.
#[derive(Clone, Debug, Default)]
pub struct Takeovers {
    /// Moments of the latest ones, at most [`TAKEOVERS_MAX`].
    times: VecDeque<Now>,
}

impl Takeovers {
    /// Asks for one now. A refusal counts for nothing, so a newcomer that keeps trying does not
    /// lengthen its own wait.
    ///
    /// # Errors
    /// Milliseconds until the next one is allowed.
    pub fn ask(&mut self, now: Now) -> Result<(), u64> {
        while self.times.front().is_some_and(|at| now.since(*at) >= TAKEOVER_WINDOW_MS) {
            self.times.pop_front();
        }
        match self.times.front() {
            Some(first) if self.times.len() >= TAKEOVERS_MAX => {
                Err(first.plus(TAKEOVER_WINDOW_MS).since(now))
            }
            _ => {
                self.times.push_back(now);
                Ok(())
            }
        }
    }

    /// Forgets everything: an operator's start.
    pub fn reset(&mut self) {
        self.times.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_takeover_in_thirty_seconds_is_refused_until_the_first_is_old() {
        let mut takeovers = Takeovers::default();
        assert_eq!(takeovers.ask(Now(0)), Ok(()));
        assert_eq!(takeovers.ask(Now(10_000)), Ok(()));
        assert_eq!(takeovers.ask(Now(20_000)), Err(10_000));
        assert_eq!(takeovers.ask(Now(29_999)), Err(1));
        assert_eq!(takeovers.ask(Now(30_000)), Ok(()));
        assert_eq!(takeovers.ask(Now(30_001)), Err(9_999));
    }
}
