//! Whether frames that wait are a burst, which is caught up with, or a backlog that stands, which
//! only leaving frames out brings down. Pure. The idea is that of CoDel (RFC 8289): a queue is bad
//! when even its lowest level over some time is high.

/// One queue.
#[derive(Debug)]
pub struct Backlog {
    target: u64,
    patience_ms: u64,
    /// Since when the level has been above the target.
    high_since_ms: Option<u64>,
    sheds: bool,
}

impl Backlog {
    /// A queue that may hold more than `target` frames for `patience_ms`.
    pub fn new(target: u64, patience_ms: u64) -> Self {
        Self { target, patience_ms, high_since_ms: None, sheds: false }
    }

    /// Takes note of the level at `now_ms`. Gives whether frames should be left out.
    pub fn see(&mut self, now_ms: u64, level: u64) -> bool {
        if level <= self.target {
            self.high_since_ms = None;
            // Not at once, or the queue would stay at the target for ever.
            self.sheds &= level > self.target / 2;
            return self.sheds;
        }
        let since_ms = *self.high_since_ms.get_or_insert(now_ms);
        self.sheds |= now_ms.saturating_sub(since_ms) >= self.patience_ms;
        self.sheds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_that_is_caught_up_with_costs_no_frame() {
        let mut backlog = Backlog::new(10, 4000);
        assert!((0..40).all(|i| !backlog.see(i * 100, 90 - 2 * i)));
        assert!(!backlog.see(4000, 9));
        assert!(!backlog.see(4100, 60), "the next burst has its own time");
        assert!(!backlog.see(8000, 60));
    }

    #[test]
    fn a_backlog_that_stands_is_brought_down_to_half_its_target() {
        let mut backlog = Backlog::new(10, 4000);
        assert!((0..40).all(|i| !backlog.see(i * 100, 11 + i)));
        assert!(backlog.see(4000, 50));
        assert!(backlog.see(4100, 8));
        assert!(!backlog.see(4200, 5));
        assert!(!backlog.see(4300, 8));
    }
}
